//! Connections that are cut or slow, a disk that is full, a copy that is restored.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{At, Service, ask, count, database, event, fetched, often, sent, until, well};

/// What stands between the service and its database.
#[derive(Clone, Default)]
struct Proxy {
    cut: Arc<AtomicBool>,
    delay: Arc<AtomicU64>,
}

impl Proxy {
    /// Listens, and hands on to a socket. The port comes back.
    fn start(&self, socket: PathBuf) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = self.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (proxy, socket) = (proxy.clone(), socket.clone());
                thread::spawn(move || proxy.join(client, &socket));
            }
        });
        port
    }

    /// Carries bytes both ways until either end is gone, or both are cut off.
    fn join(&self, client: TcpStream, socket: &Path) {
        let Ok(server) = UnixStream::connect(socket) else {
            return;
        };
        let end = {
            let (client, server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            move || {
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            }
        };
        let (to_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::scope(|scope| {
            scope.spawn(|| {
                self.carry(client, to_server);
                end();
            });
            self.carry(server, to_client);
            end();
        });
    }

    fn carry(&self, mut from: impl Read, mut to: impl Write) {
        let mut bytes = [0; 4_096];
        while let Ok(length) = from.read(&mut bytes) {
            thread::sleep(Duration::from_millis(self.delay.load(Ordering::Relaxed)));
            if length == 0
                || self.cut.load(Ordering::Relaxed)
                || to.write_all(&bytes[..length]).is_err()
            {
                return;
            }
        }
    }
}

/// The socket that a URL such as `postgresql://user@%2Frun%2Fpostgres:5432/name` names, and that URL by another address.
fn apart(url: &str, address: &str) -> (PathBuf, String) {
    let (user, rest) = url.split_once('@').unwrap();
    let (host, rest) = rest.split_once(':').unwrap();
    let (port, name) = rest.split_once('/').unwrap();
    let directory = host
        .replace("%2F", "/")
        .replace("%2f", "/")
        .replace("%2E", ".");
    let socket = Path::new(&directory).join(format!(".s.PGSQL.{port}"));
    (socket, format!("{user}@{address}/{name}?sslmode=disable"))
}

#[test]
fn a_database_that_is_cut_off_is_refused_aloud_and_comes_back_without_a_hand() {
    let directory = TempDir::new().unwrap();
    let postgres = database(directory.path());
    let url = postgres.url();
    let proxy = Proxy::default();
    let port = proxy.start(apart(&url, "").0);
    let at = At::Url(apart(&url, &format!("127.0.0.1:{port}")).1);
    let of = At::Url(url).project();
    let service = Service::start(&at, &["--freshness", "1"]);
    let mut kept = 0_u128;
    let mut send = || {
        let done = sent(&service.url, &of, &[event("p", kept)].into_iter().collect());
        kept += u128::from(done);
        done
    };
    assert!(send());
    for _ in 0..3 {
        proxy.cut.store(true, Ordering::Relaxed);
        until("it is refused", || !send());
        let (status, answer) = ask(&service.url, &of, Method::GET, "/_readyz", None).unwrap();
        assert_eq!(status, 503, "{answer}");
        let path = format!("/api/projects/{}/cohorts/", of.project);
        let (status, answer) = ask(&service.url, &of, Method::GET, &path, None).unwrap();
        assert_eq!((status, &answer["code"]), (503, &json!("unavailable")));
        proxy.cut.store(false, Ordering::Relaxed);
        until("it is taken again", &mut send);
    }
    proxy.delay.store(20, Ordering::Relaxed);
    assert!(send());
    proxy.delay.store(0, Ordering::Relaxed);
    // What was refused may be there, as its acknowledgement may be what was cut; it has the uuid of what was sent then.
    let exact = json!({"properties": {"type": "AND", "values": [{"type": "behavioral", "key": "x",
        "value": "performed_event_multiple", "event_type": "events", "time_value": 1, "time_interval": "day",
        "operator": "exact", "operator_value": kept}]}});
    assert_eq!(count(&service.url, &of, &exact), 1, "{kept} events");
    assert!(service.stop());
}

/// PostgreSQL's own program of a name, where it is on this machine.
fn postgres_program(name: &str) -> Option<PathBuf> {
    let fetched = fetched().map(|directory| directory.join(name));
    let newest = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        versions
            .map(|version| version.path().join("bin").join(name))
            .filter(|path| path.exists())
            .max()
    };
    fetched.filter(|path| path.exists()).or_else(newest)
}

#[test]
fn a_dump_that_is_restored_is_the_same_service() {
    let (Some(dump), Some(restore)) = (postgres_program("pg_dump"), postgres_program("pg_restore"))
    else {
        assert!(
            std::env::var_os("COHORTS_TEST_REQUIRE").is_none(),
            "there is no pg_dump"
        );
        return;
    };
    let directory = TempDir::new().unwrap();
    let postgres = database(directory.path());
    let at = At::Url(postgres.url());
    let of = at.project();
    let service = Service::start(&at, &[]);
    let batch = (0..300)
        .map(|nth| event(&format!("p{}", nth % 100), nth))
        .collect();
    assert!(sent(&service.url, &of, &batch));
    let body = json!({"name": "c", "filters": often(3)});
    let made = well(&service.url, &of, Method::POST, "cohorts/", Some(&body));
    let path = format!("cohorts/{}/", made["id"]);
    until("it is calculated", || {
        well(&service.url, &of, Method::GET, &path, None)["count"] == 100
    });
    assert!(service.stop());

    let file = directory.path().join("dump");
    let without = [
        "blocks",
        "sealed_logs",
        "sealed_people",
        "sealed_properties",
    ];
    let mut command = Command::new(dump);
    command
        .args(["--format=custom", "--file"])
        .arg(&file)
        .arg("--dbname")
        .arg(postgres.url());
    command.args(without.map(|table| format!("--exclude-table-data={table}")));
    assert!(command.status().unwrap().success());
    let other = TempDir::new().unwrap();
    let restored = database(other.path());
    let mut command = Command::new(restore);
    command
        .args(["--no-owner", "--dbname"])
        .arg(restored.url())
        .arg(&file);
    assert!(command.status().unwrap().success());

    let at = At::Url(restored.url());
    let service = Service::start(&at, &[]);
    let shown = well(&service.url, &of, Method::GET, &path, None);
    assert_eq!(
        (&shown["count"], &shown["name"]),
        (&json!(100), &json!("c"))
    );
    assert_eq!(count(&service.url, &of, &often(3)), 100);
    let mut examined = at.of(&["doctor"]);
    let said = examined.output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("ok        counts"), "{said}");
}

/// A file system of a few megabytes, where this machine lets one be made.
struct Small(TempDir);

impl Small {
    fn new(megabytes: u32) -> Option<Small> {
        let directory = TempDir::new().unwrap();
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(directory.path());
        mount
            .output()
            .is_ok_and(|done| done.status.success())
            .then_some(Small(directory))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn a_full_disk_is_refused_aloud_and_nothing_acknowledged_is_lost() {
    let Some(small) = Small::new(200) else {
        // Only root may make one.
        return;
    };
    let at = At::Directory(small.0.path().join("data"));
    let of = at.project();
    let service = Service::start(&at, &[]);
    // Nothing that could be compressed.
    let text: String = (0..1_500_u64)
        .map(|nth| {
            format!(
                "{:016x}",
                (nth + 1)
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                    .rotate_left(29)
            )
        })
        .collect();
    let filler = small.0.path().join("filler");
    let mut kept = 0_usize;
    let mut send = || {
        let mut one = event("p", kept as u128);
        one["properties"]["text"] = json!(format!("{text}{kept}"));
        let body = json!({"api_key": of.token, "batch": [one]});
        let (status, answer) =
            ask(&service.url, &of, Method::POST, "/batch/", Some(&body)).unwrap_or_default();
        kept += usize::from(status == 200);
        (status, answer)
    };
    assert_eq!(send().0, 200);
    std::fs::write(&filler, vec![0; 60 << 20]).unwrap();
    let mut last = send();
    let mut rounds = 0;
    while last.0 == 200 {
        rounds += 1;
        assert!(rounds < 10_000, "the disk is never full");
        last = send();
    }
    assert!(matches!(last.0, 503 | 507), "{last:?}");
    std::fs::remove_file(&filler).unwrap();
    until("there is room again", || send().0 == 200);
    let exact = json!({"properties": {"type": "AND", "values": [{"type": "behavioral", "key": "x",
        "value": "performed_event_multiple", "event_type": "events", "time_value": 1, "time_interval": "day",
        "operator": "exact", "operator_value": kept}]}});
    assert_eq!(count(&service.url, &of, &exact), 1, "{kept} events");
}
