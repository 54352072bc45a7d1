//! `cargo xtask soak`: runs the service under load with kills, and then checks every cohort.
//!
//! Writers send each batch of events until it is acknowledged. Readers send requests, and cohorts are calculated all the
//! time. The service or its Postgres is killed at random times and started again. At the end, the members of every
//! cohort must match the acknowledged events exactly: no event lost, none counted twice, no calculation stuck.
//!
//! With `--histories N`, it runs N random histories instead, in which processes are killed at named points around commits,
//! and each replay of the feed must end with the members.

mod check;
mod histories;
mod process;
mod workload;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::print_line;
use crate::service::{self, Service};
use process::{MemoryUsage, kill_postgres, memory_usage, wait_until_ready};
use workload::Workload;

#[derive(Args)]
pub struct Soak {
    /// The duration of the load in minutes
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// The average time between two kills in seconds
    #[arg(long, default_value_t = 60)]
    kill_every: u64,
    /// The approximate number of events that each writer sends per second
    #[arg(long, default_value_t = 500)]
    rate: usize,
    /// Instead of the load, run this number of random histories with kills at commit points
    #[arg(long, value_name = "N")]
    histories: Option<usize>,
    /// The number of the first history; it decides what the history does
    #[arg(long, default_value_t = 0, requires = "histories")]
    first: usize,
    /// The number of services that share the database of the histories
    #[arg(long, default_value_t = 1, requires = "histories")]
    processes: usize,
}

const WRITERS: usize = 2;
const READERS: usize = 2;
/// The value of `--memory` for the service, in MiB.
const MEMORY_LIMIT: &str = "64";
/// The report shows the memory for this number of equal parts of the run.
const MEMORY_PARTS: usize = 6;
/// After a kill of Postgres, the service is restarted if it is not ready within this time.
const POSTGRES_RESTART_TIMEOUT: Duration = Duration::from_secs(20);
const READY_TIMEOUT: Duration = Duration::from_secs(30);

impl Soak {
    pub fn run(&self, root: &Path) -> Result<()> {
        if let Some(count) = self.histories {
            return histories::run(root, count, self.first, self.processes);
        }
        service::build(root)?;
        let directory = root.join("target/soak");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        let workload = Workload::new(service::create_project(root, &directory, "Soak")?);
        let start = || Service::start_with(root, &directory, &["--memory", MEMORY_LIMIT]);
        let service = start()?;
        let cohorts = check::create_cohorts(&service, &workload.access)?;
        let cohort_ids: Vec<i64> = cohorts.iter().map(|cohort| cohort.id).collect();
        workload.set_url(Some(service.url()));
        let (service, report) = thread::scope(|scope| {
            for writer in 0..WRITERS {
                let workload = &workload;
                scope.spawn(move || workload.write_events(writer, self.rate));
            }
            for _ in 0..READERS {
                scope.spawn(|| workload.read(&cohort_ids));
            }
            scope.spawn(|| workload.merge_and_delete());
            let result = self.kill_and_restart(&workload, service, &start, &directory);
            workload.stop();
            result
        })?;
        workload.print_counts()?;
        report.print()?;
        check::check_members(&service, &workload, &cohorts)
    }

    /// Kills the service or its Postgres at random times and restarts it, until the time is over.
    fn kill_and_restart(
        &self,
        workload: &Workload,
        mut service: Service,
        start: &dyn Fn() -> Result<Service>,
        directory: &Path,
    ) -> Result<(Service, KillReport)> {
        let rng = &mut StdRng::seed_from_u64(1);
        let end = Instant::now() + Duration::from_secs_f64(self.minutes * 60.0);
        let mut report = KillReport::default();
        while Instant::now() < end {
            let pause = Duration::from_millis(rng.random_range(500..=self.kill_every * 2_000));
            let kill_time = end.min(Instant::now() + pause);
            while Instant::now() < kill_time {
                report.memory.push(memory_usage(&service)?);
                thread::sleep(Duration::from_secs(1).min(kill_time - Instant::now()));
            }
            if Instant::now() >= end {
                break;
            }
            let killed = Instant::now();
            if rng.random_bool(0.25) {
                kill_postgres(directory)?;
                report.postgres_kills += 1;
                // An operator restarts a service that does not become ready after its database was killed.
                if !wait_until_ready(&service, POSTGRES_RESTART_TIMEOUT) {
                    workload.set_url(None);
                    drop(service);
                    service = start()?;
                }
            } else {
                workload.set_url(None);
                service.kill()?;
                report.kills += 1;
                service = start()?;
            }
            ensure!(
                wait_until_ready(&service, READY_TIMEOUT),
                "the service is not ready after a kill"
            );
            report.recovery_times.push(killed.elapsed());
            workload.set_url(Some(service.url()));
        }
        Ok((service, report))
    }
}

/// The kills, and the memory of the service during the run.
#[derive(Default)]
struct KillReport {
    kills: u32,
    postgres_kills: u32,
    /// The times from a kill until the service is ready.
    recovery_times: Vec<Duration>,
    /// One sample per second.
    memory: Vec<MemoryUsage>,
}

impl KillReport {
    fn print(&self) -> Result<()> {
        let slowest = self
            .recovery_times
            .iter()
            .max()
            .copied()
            .unwrap_or_default();
        print_line(format!(
            "{} kills of the service, {} of Postgres; ready again after at most {:.1} s",
            self.kills,
            self.postgres_kills,
            slowest.as_secs_f64()
        ))?;
        let part_length = self.memory.len().div_ceil(MEMORY_PARTS).max(1);
        for (index, part) in self.memory.chunks(part_length).enumerate() {
            let resident = sorted(part.iter().map(|usage| usage.resident));
            let indexes = sorted(part.iter().map(|usage| usage.indexes));
            print_line(format!(
                "memory in part {} of {MEMORY_PARTS}: median {} MiB, {} MiB of it indexes; maximum {} MiB and {} MiB",
                index + 1,
                resident[resident.len() / 2],
                indexes[indexes.len() / 2],
                resident[resident.len() - 1],
                indexes[indexes.len() - 1],
            ))?;
        }
        Ok(())
    }
}

fn sorted(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values
}
