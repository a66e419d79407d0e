//! `jellypin init`: makes a configuration of a few flags or answers, tries it, and writes it.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use jellypin::config::{self, ProcessEnvironment};
use toml::Value;

/// What a first configuration needs. Without `--pod` it is asked on the terminal.
#[derive(Args, Default)]
pub(crate) struct InitOptions {
    /// A Jellyfin server, such as http://10.0.0.11:8096 or a=http://10.0.0.11:8096; give it once for each server.
    #[arg(long = "pod", value_name = "[NAME=]URL")]
    pods: Vec<String>,
    /// A file with an API key of Jellyfin (Dashboard, API Keys).
    #[arg(long, value_name = "FILE", conflicts_with = "api_key_env")]
    api_key_file: Option<String>,
    /// A variable of the environment with the API key.
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
    /// The name by which clients come over https; its certificate is ordered from Let's Encrypt.
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Where Let's Encrypt writes to.
    #[arg(long, value_name = "ADDRESS", requires = "domain")]
    email: Option<String>,
    /// Where clients connect in clear [default: 0.0.0.0:8096, or 0.0.0.0:80 with --domain].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The folder for what must survive a restart.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/jellypin")]
    state: PathBuf,
    /// The file to write. One that exists is left as it is.
    #[arg(long, value_name = "FILE", default_value = "jellypin.toml")]
    pub(crate) output: PathBuf,
    /// Writes the file even if the pods lack something.
    #[arg(long)]
    pub(crate) unchecked: bool,
}

impl InitOptions {
    /// Asks on the terminal for what the flags do not say.
    ///
    /// # Errors
    /// There is no terminal, or it ends.
    pub(crate) fn complete(self) -> io::Result<InitOptions> {
        if !self.pods.is_empty() {
            return Ok(self);
        }
        if !io::stdin().is_terminal() {
            return Err(io::Error::other("name a server: jellypin init --pod http://10.0.0.11:8096"));
        }
        self.ask_questions(&mut io::stdin().lock(), &mut io::stderr(), InitOptions::refusal)
    }

    /// Asks again while `refuse` says why an answer cannot be used.
    fn ask_questions(
        mut self,
        answers: &mut impl BufRead,
        questions: &mut impl Write,
        refuse: impl Fn(&InitOptions) -> Option<String>,
    ) -> io::Result<InitOptions> {
        type Change = fn(&mut InitOptions, Option<String>);
        let mut ask = |options: &mut InitOptions, question: &str, change: Change| -> io::Result<bool> {
            loop {
                write!(questions, "{question} ")?;
                questions.flush()?;
                let mut answer = String::new();
                if answers.read_line(&mut answer)? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                let answer = answer.trim();
                if answer.is_empty() {
                    return Ok(false);
                }
                change(options, Some(answer.to_owned()));
                let Some(why) = refuse(options) else { return Ok(true) };
                change(options, None);
                writeln!(questions, "{why}")?;
            }
        };
        let pod: Change = |options, pod| match pod {
            Some(pod) => options.pods.push(pod),
            None => drop(options.pods.pop()),
        };
        let mut question = "URL of a Jellyfin server, such as http://10.0.0.11:8096:";
        while ask(&mut self, question, pod)? {
            question = "URL of a further server on the same database (empty: no more):";
        }
        if self.pods.is_empty() {
            return Err(io::Error::other("without a server there is nothing to do"));
        }
        if self.api_key_file.is_none() && self.api_key_env.is_none() {
            let question = "File with an API key of Jellyfin (empty: none):";
            ask(&mut self, question, |options, file| options.api_key_file = file)?;
        }
        if self.domain.is_none() {
            let question = "Name for https, such as media.example.org (empty: clear HTTP only):";
            let has_domain = ask(&mut self, question, |options, domain| options.domain = domain)?;
            if has_domain && self.email.is_none() {
                let question = "Mail address for Let's Encrypt (empty: none):";
                ask(&mut self, question, |options, email| options.email = email)?;
            }
        }
        Ok(self)
    }

    /// Why a configuration of these options cannot be used, without a place in a file that does not exist yet.
    fn refusal(&self) -> Option<String> {
        let error = config::parse(&self.text(), &self.output, &ProcessEnvironment).err()?.to_string();
        let line = error.lines().next().unwrap_or_default();
        Some(line.split_once(": ").map_or(line, |(_, problem)| problem).to_owned())
    }

    /// The configuration, as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(
            "# Made by `jellypin init`. All other keys have their defaults: see docs/configuration.md.\n\n[listen]\n",
        );
        let port = if self.domain.is_some() { 80 } else { 8096 };
        let listen = self.listen.unwrap_or(SocketAddr::from(([0, 0, 0, 0], port)));
        let mut line = |line: String| text.push_str(&(line + "\n"));
        line(format!("http = {}", quoted(&listen.to_string())));
        if let Some(domain) = &self.domain {
            line(format!("https = {}", quoted(&SocketAddr::new(listen.ip(), 443).to_string())));
            line("\n# Requests in clear are sent to https.\n[tls]\nredirect = \"on\"".into());
            line("\n# The certificate. The name has to lead here, at port 80 or 443.\n[tls.acme]".into());
            line(format!("domains = {}", quoted(domain)));
            if let Some(email) = &self.email {
                line(format!("email = {}", quoted(email)));
            }
        }
        line("\n# What must survive a restart.\n[state]".into());
        line(format!("path = {}", quoted(&absolute(&self.state.to_string_lossy()))));
        let key = match (&self.api_key_file, &self.api_key_env) {
            (Some(file), _) => Some(format!("{{ file = {} }}", quoted(&absolute(file)))),
            (None, Some(name)) => Some(format!("{{ env = {} }}", quoted(name))),
            (None, None) => None,
        };
        if let Some(key) = key {
            line("\n# With the key, sessions move to another pod when their own is gone.\n[jellyfin]".into());
            line(format!("api_key = {key}"));
        }
        line("\n# The Jellyfin servers. Several of them share one database and one library.\n[pools.main.pods]".into());
        for (name, url) in named(&self.pods) {
            line(format!("{} = {}", quoted(&name), quoted(url)));
        }
        text
    }

    /// The files of secrets that it names.
    pub(crate) fn secrets(&self) -> Vec<PathBuf> {
        self.api_key_file.iter().map(|file| absolute(file).into()).collect()
    }

    /// Writes the configuration into a new file.
    ///
    /// # Errors
    /// The file exists already, or cannot be written.
    pub(crate) fn write(&self, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.output)?;
        file.write_all(text.as_bytes())
    }
}

/// The pods' names and URLs. Those without a name are called by the letters that are free.
fn named(pods: &[String]) -> Vec<(String, &str)> {
    fn split(pod: &str) -> (Option<&str>, &str) {
        match pod.split_once('=') {
            Some((name, url)) if !name.contains(['/', ':']) => (Some(name), url),
            _ => (None, pod),
        }
    }
    let given: Vec<(Option<&str>, &str)> = pods.iter().map(|pod| split(pod)).collect();
    let letters = ('a'..='z').map(String::from).chain((1..).map(|number| format!("pod{number}")));
    let mut free = letters.filter(|letter| given.iter().all(|(name, _)| *name != Some(letter)));
    let mut name = |given: Option<&str>| given.map(str::to_owned).or_else(|| free.next()).unwrap_or_default();
    given.iter().map(|(given, url)| (name(*given), *url)).collect()
}

/// A relative path of the command line starts at this folder, one of the file at the file's.
fn absolute(file: &str) -> String {
    std::path::absolute(Path::new(file)).map_or_else(|_| file.to_owned(), |path| path.to_string_lossy().into_owned())
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn options(pods: &[&str]) -> InitOptions {
        InitOptions {
            pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
            state: "/var/lib/jellypin".into(),
            ..InitOptions::default()
        }
    }

    #[test]
    fn one_server_in_clear() {
        assert_eq!(
            options(&["http://jellyfin:8096"]).text(),
            "# Made by `jellypin init`. All other keys have their defaults: see docs/configuration.md.\n\n\
             [listen]\nhttp = \"0.0.0.0:8096\"\n\n\
             # What must survive a restart.\n[state]\npath = \"/var/lib/jellypin\"\n\n\
             # The Jellyfin servers. Several of them share one database and one library.\n\
             [pools.main.pods]\n\"a\" = \"http://jellyfin:8096\"\n"
        );
    }

    #[test]
    fn the_questions_lead_to_several_servers_over_https() {
        let answers = "http://10.0.0.11:8096\nfilms=http://10.0.0.12:8096\n\n/key\nmedia.example.org\nme@example.org\n";
        let mut questions = Vec::new();
        let asked = options(&[]).ask_questions(&mut Cursor::new(answers), &mut questions, |_| None).expect("answers");
        let text = asked.text();
        for part in [
            "http = \"0.0.0.0:80\"\nhttps = \"0.0.0.0:443\"\n",
            "redirect = \"on\"\n",
            "domains = \"media.example.org\"\nemail = \"me@example.org\"\n",
            "api_key = { file = \"/key\" }\n",
            "\"a\" = \"http://10.0.0.11:8096\"\n\"films\" = \"http://10.0.0.12:8096\"\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let asked = String::from_utf8_lossy(&questions).into_owned();
        assert_eq!((asked.matches("URL of").count(), asked.matches("empty: ").count()), (3, 5), "{asked}");
        assert!(options(&[]).ask_questions(&mut Cursor::new("\n"), &mut Vec::new(), |_| None).is_err(), "no server");
        assert!(
            options(&[]).ask_questions(&mut Cursor::new("http://a:1\n"), &mut Vec::new(), |_| None).is_err(),
            "the terminal ends"
        );
    }

    #[test]
    fn an_answer_that_cannot_be_used_is_asked_for_again() {
        let answers = "ftp://x\nhttp://10.0.0.11:8096\n\n/nowhere/key\n\n\n";
        let mut questions = Vec::new();
        let begun = InitOptions { output: "tty.toml".into(), ..options(&[]) };
        let asked =
            begun.ask_questions(&mut Cursor::new(answers), &mut questions, InitOptions::refusal).expect("answers");
        assert_eq!((&asked.pods[..], asked.api_key_file), (&["http://10.0.0.11:8096".to_owned()][..], None));
        let asked = String::from_utf8_lossy(&questions).into_owned();
        assert!(asked.contains("[pools.main.pods] a: ") && asked.contains("/nowhere/key"), "{asked}");
        assert!(!asked.contains(".toml:"), "no place in a file that is not there: {asked}");
    }

    #[test]
    fn each_pod_has_a_name_of_its_own() {
        let pods = ["b=http://x", "http://y?a=b", "http://z"].map(str::to_owned);
        let names: Vec<_> = named(&pods).into_iter().map(|(name, url)| format!("{name} {url}")).collect();
        assert_eq!(names, ["b http://x", "a http://y?a=b", "c http://z"]);
    }

    #[test]
    fn what_is_given_stays_text() {
        let text = options(&["a=http://x\"\n[evil]:1"]).text();
        assert!(toml::from_str::<toml::Table>(&text).is_ok_and(|table| !table.contains_key("evil")), "{text}");
    }
}
