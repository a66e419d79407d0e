//! What the kernel says of a process and of the machine, read from /proc.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time that the living threads of a process have had, user and kernel, to the nanosecond.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid}"))? {
        // A thread may end between the listing and the reading; its share is then lost, as with any that ended before.
        let Ok(line) = fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        nanoseconds += line.split_ascii_whitespace().next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident now (`VmRSS`).
    pub(crate) resident: u64,
    /// The most that was ever resident since the start or the last [`forget_peak`] (`VmHWM`).
    pub(crate) peak: u64,
}

pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let resident = kibibytes(&status, "VmRSS:").context("no VmRSS")?;
    let peak = kibibytes(&status, "VmHWM:").context("no VmHWM")?;
    Ok(Memory { resident, peak })
}

fn kibibytes(status: &str, field: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Makes the kernel reset `VmHWM`.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").with_context(|| format!("clear_refs of process {pid}"))
}

/// Processor time that all cores of the machine have spent on anything but idling.
pub(crate) fn machine_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    machine_ticks(&stat).map(|ticks| Duration::from_millis(ticks * 1000 / TICKS_A_SECOND)).context("no cpu line")
}

/// The unit of /proc/stat is the same on every Linux that userspace meets (`USER_HZ`).
const TICKS_A_SECOND: u64 = 100;

fn machine_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = stat
        .lines()
        .find_map(|line| line.strip_prefix("cpu "))?
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guest time is already in user.
    let busy = [0, 1, 2, 5, 6, 7];
    Some(busy.iter().filter_map(|&index| fields.get(index)).sum())
}

/// Dials on this machine that ended refused (`AttemptFails` of TCP), since it booted.
pub(crate) fn refused_dials() -> Result<u64> {
    let snmp = fs::read_to_string("/proc/net/snmp").context("/proc/net/snmp")?;
    tcp_counter(&snmp, "AttemptFails").context("no AttemptFails")
}

fn tcp_counter(snmp: &str, name: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let column = lines.next()?.split_ascii_whitespace().position(|heading| heading == name)?;
    lines.next()?.split_ascii_whitespace().nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_do_not_count_as_busy() {
        let stat = "cpu  1 2 4 1000 2000 8 16 32 64 0\ncpu0 9 9 9 9 9 9 9 9 9 9\n";
        assert_eq!(machine_ticks(stat), Some(1 + 2 + 4 + 8 + 16 + 32));
    }

    #[test]
    fn a_counter_is_found_by_its_heading() {
        let snmp = "Ip: Forwarding\nIp: 1\nTcp: RtoMin AttemptFails MaxConn\nTcp: 200 17 -1\n";
        assert_eq!(tcp_counter(snmp, "AttemptFails"), Some(17));
        assert_eq!(tcp_counter(snmp, "Absent"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(kibibytes("Name:\tx\nVmHWM:\t    2048 kB\n", "VmHWM:"), Some(2 * 1024 * 1024));
    }

    #[test]
    fn work_shows_as_processor_time() {
        let pid = std::process::id();
        let before = processor_time(pid).expect("this process is there");
        let mut sum = 0_u64;
        // Bounded by the work, not by the clock: the kernel books time at least once a tick.
        while processor_time(pid).expect("this process is there") <= before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
