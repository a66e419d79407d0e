//! Who runs and who waits on a machine: pure, with the time given.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::{Machine, Work};

/// The number of a piece of work.
pub(super) type Ticket = u64;

/// The work of one process.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    next: Ticket,
    running: Vec<Job>,
    waiting: VecDeque<Job>,
    /// Threads that the pool has grown by.
    grown: usize,
    /// Threads whose work is done, or waits for something else than the processor.
    kept: usize,
    /// How long work has waited for a thread since the pool last grew.
    starved_for: Duration,
    /// What each kind's first work was, and whether its code is compiled by now.
    code: HashMap<Work, Code>,
    age: Duration,
    /// How much longer each film is watched.
    films: HashMap<String, Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    ticket: Ticket,
    work: Work,
    /// Seconds of one core.
    left: f64,
}

/// The code of a kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// This first piece of work compiles it; those that come meanwhile wait for that, on their threads.
    CompiledBy(Ticket),
    Compiled,
}

/// How long an ffmpeg works ahead after the last segment that was asked of it.
const AHEAD: Duration = Duration::from_secs(6);

impl Schedule {
    /// Adds work.
    pub(super) fn add(&mut self, work: Work, machine: &Machine) -> Ticket {
        self.next += 1;
        let factor = match self.code.get(&work) {
            _ if !work.is_managed() => 1.0,
            None => {
                self.code.insert(work, Code::CompiledBy(self.next));
                machine.cold.first
            }
            Some(_) if self.age < machine.cold.lasts => machine.cold.later,
            Some(_) => 1.0,
        };
        let job = Job { ticket: self.next, work, left: work.cost().as_secs_f64() * factor };
        if work.needs_thread() {
            self.waiting.push_back(job)
        } else {
            self.running.push(job)
        }
        self.give_threads(machine);
        job.ticket
    }

    /// A film is watched: its ffmpeg works.
    pub(super) fn watch(&mut self, film: &str) {
        self.films.insert(film.to_owned(), AHEAD);
    }

    /// Gives back the thread of work that is done.
    pub(super) fn free_thread(&mut self, machine: &Machine) {
        self.kept = self.kept.saturating_sub(1);
        self.give_threads(machine);
    }

    /// Lets this much time pass while there is no work.
    pub(super) fn rest(&mut self, time: Duration) {
        self.age += time;
    }

    /// Lets this much time pass; gives what is done, and whether it keeps a thread, until [`Schedule::free_thread`].
    pub(super) fn advance(&mut self, time: Duration, machine: &Machine) -> Vec<(Ticket, bool)> {
        let others = self.films.len() * machine.transcode_threads
            + if self.age < machine.cold.start_up { machine.cold.start_up_threads } else { 0 };
        let code = &self.code;
        let goes_on = |job: &Job| {
            code.get(&job.work)
                .is_none_or(|code| matches!(*code, Code::Compiled) || *code == Code::CompiledBy(job.ticket))
        };
        let threads = self.running.iter().filter(|job| goes_on(job)).count() + others;
        let work = (machine.cores / threads.max(1) as f64).min(1.0) * time.as_secs_f64();
        self.running.iter_mut().filter(|job| goes_on(job)).for_each(|job| job.left -= work);
        let is_done = |job: &&Job| job.left <= 0.0;
        let done: Vec<_> =
            self.running.iter().filter(is_done).map(|job| (job.ticket, job.work.needs_thread())).collect();
        for job in self.running.iter().filter(is_done) {
            self.code.insert(job.work, Code::Compiled);
        }
        self.running.retain(|job| job.left > 0.0);
        self.kept += done.iter().filter(|(_, keeps_thread)| *keeps_thread).count();
        self.age += time;
        self.films.retain(|_, left| {
            *left = left.saturating_sub(time);
            !left.is_zero()
        });
        self.starved_for = if self.waiting.is_empty() { Duration::ZERO } else { self.starved_for + time };
        if self.starved_for >= machine.new_thread_every {
            self.starved_for -= machine.new_thread_every;
            self.grown += 1;
        }
        self.give_threads(machine);
        done
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty() && self.films.is_empty()
    }

    fn give_threads(&mut self, machine: &Machine) {
        let busy = self.running.iter().filter(|job| job.work.needs_thread()).count() + self.kept;
        let free = (machine.threads + self.grown).saturating_sub(busy);
        let begin = free.min(self.waiting.len());
        self.running.extend(self.waiting.drain(..begin));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(1);

    /// Lets time pass until this is done, and keeps its thread; gives how many milliseconds that took.
    fn hold(schedule: &mut Schedule, work: Work, machine: &Machine) -> u128 {
        let wanted = schedule.add(work, machine);
        for milliseconds in 1.. {
            let mut is_done = false;
            for (ticket, _) in schedule.advance(STEP, machine) {
                if ticket == wanted {
                    is_done = true;
                } else {
                    schedule.free_thread(machine);
                }
            }
            if is_done {
                return milliseconds;
            }
            assert!(milliseconds < 100_000, "it never ends");
        }
        unreachable!()
    }

    fn run(schedule: &mut Schedule, work: Work, machine: &Machine) -> u128 {
        let time = hold(schedule, work, machine);
        schedule.free_thread(machine);
        time
    }

    fn mint(schedule: &mut Schedule, machine: &Machine) -> u128 {
        [Work::Initiate, Work::Authorize, Work::Token].map(|work| run(schedule, work, machine)).iter().sum()
    }

    #[test]
    fn a_pod_takes_what_was_recorded() {
        let machine = Machine::RECORDED;
        let mut cold = Schedule::default();
        let log_in = run(&mut cold, Work::LogIn, &machine);
        assert!((4000..6000).contains(&log_in), "a log-in right after the start: {log_in} ms");
        // The tasks of the start are over.
        cold.advance(machine.cold.start_up, &machine);
        let first = mint(&mut cold, &machine);
        assert!((800..1000).contains(&first), "the first mint: {first} ms");
        let second = mint(&mut cold, &machine);
        assert!((21..100).contains(&second), "the next one: {second} ms");
        cold.advance(machine.cold.lasts, &machine);
        let warm = [run(&mut cold, Work::LogIn, &machine), mint(&mut cold, &machine)];
        assert!((29..33).contains(&warm[0]) && (21..26).contains(&warm[1]), "a log-in and a mint: {warm:?} ms");
    }

    #[test]
    fn a_starved_pod_is_late_with_its_health_check() {
        let starved = Machine::RECORDED.warm().cores(0.2);
        let mut schedule = Schedule::default();
        schedule.watch("film");
        for _ in 0..6 {
            schedule.add(Work::Page, &starved);
        }
        let health = run(&mut schedule, Work::Health, &starved);
        assert!(health > 2000, "{health} ms");
    }

    #[test]
    fn a_pool_grows_by_one_thread_each_half_second_while_work_waits() {
        let machine = Machine::RECORDED.warm();
        let mut schedule = Schedule::default();
        // What hangs keeps its thread.
        assert!((0..2).all(|_| hold(&mut schedule, Work::Small, &machine) < 10));
        for _ in 0..2 {
            let waited = hold(&mut schedule, Work::Small, &machine);
            assert!((500..520).contains(&waited), "{waited} ms");
        }
        schedule.free_thread(&machine);
        assert!(run(&mut schedule, Work::Small, &machine) < 10);
    }

    #[test]
    fn a_watched_film_takes_its_threads_share_of_the_cores() {
        let machine = Machine::RECORDED.warm();
        let mut schedule = Schedule::default();
        assert_eq!(run(&mut schedule, Work::Page, &machine), 50);
        schedule.watch("one");
        schedule.watch("two");
        let beside_two = run(&mut schedule, Work::Page, &machine);
        assert!((120..130).contains(&beside_two), "{beside_two}: five threads on two cores");
        schedule.advance(AHEAD, &machine);
        assert_eq!(run(&mut schedule, Work::Page, &machine), 50);
        assert!(schedule.is_idle());
    }
}
