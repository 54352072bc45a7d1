//! What identifies this run of the program, and whether another run on the same host has ended.

use std::fs;

use cohorts_engine::delta::SEMANTICS;
use cohorts_store::live::{Holder, ProjectLease};
use uuid::Uuid;

/// This run of the program. Without `/proc`, other processes wait until its leases end.
pub fn holder() -> Holder {
    Holder {
        owner: Uuid::now_v7(),
        host: host(),
        process: process(std::process::id()).unwrap_or_default(),
        semantics: i64::from(SEMANTICS),
    }
}

/// The start of the host and the name space of process ids, in which a process id is unique.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let ids = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    if boot.is_empty() {
        return String::new();
    }
    format!("{} {} {}", name.trim(), boot.trim(), ids.display())
}

/// The process with an id, including its start; `None` if there is none, or if it has ended and was not waited for.
fn process(id: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name of the program may contain spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?;
    (!matches!(state, "Z" | "X")).then(|| format!("{id} {start}"))
}

/// Whether the holder of a lease ran on this host and has ended.
pub fn has_ended(lease: &ProjectLease) -> bool {
    let host = host();
    if host.is_empty() || lease.host != host {
        return false;
    }
    let id = lease.process.split_whitespace().next();
    let id = id.and_then(|id| id.parse().ok());
    id.is_some_and(|id| process(id).as_deref() != Some(&lease.process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_ended_if_its_id_is_free_or_is_that_of_another_process() {
        let me = holder();
        let lease = |host: &str, process: &str| ProjectLease {
            project_id: 1,
            owner: me.owner,
            host: host.to_owned(),
            process: process.to_owned(),
            semantics: me.semantics,
            lease_until: Default::default(),
            right_as_of: Default::default(),
            seq: 0,
        };
        assert!(!has_ended(&lease(&me.host, &me.process)));
        let id = std::process::id();
        assert!(has_ended(&lease(&me.host, &format!("{id} 1"))));
        assert!(has_ended(&lease(&me.host, "999999999 1")));
        assert!(!has_ended(&lease("elsewhere", "999999999 1")));
        assert!(!has_ended(&lease(&me.host, "")), "unknown");
    }
}
