//! Cut and slow connections, a full disk, a restored dump.

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

use crate::harness::{
    Location, Service, ask, count, database, event, fetched, often, sent, until, well,
};

/// A proxy between the service and its database.
#[derive(Clone, Default)]
struct Proxy {
    cut: Arc<AtomicBool>,
    delay: Arc<AtomicU64>,
}

impl Proxy {
    /// Forwards connections to a socket, and returns the port.
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

    /// Copies bytes in both directions until one end closes or `cut` is set.
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

/// The socket of a URL such as `postgresql://user@%2Frun%2Fpostgres:5432/name`, and the URL with another address.
fn split_url(url: &str, address: &str) -> (PathBuf, String) {
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
fn service_recovers_from_a_lost_database_connection() {
    let url = database();
    let proxy = Proxy::default();
    let port = proxy.start(split_url(&url, "").0);
    let at = Location::Url(split_url(&url, &format!("127.0.0.1:{port}")).1);
    let access = Location::Url(url).project();
    let service = Service::start(&at, &["--freshness", "1"]);
    let mut acknowledged = 0_u128;
    let mut send = || {
        let done = sent(
            &service.url,
            &access,
            &[event("p", acknowledged)].into_iter().collect(),
        );
        acknowledged += u128::from(done);
        done
    };
    assert!(send());
    for _ in 0..3 {
        proxy.cut.store(true, Ordering::Relaxed);
        until("it is refused", || !send());
        let (status, answer) = ask(&service.url, &access, Method::GET, "/_readyz", None).unwrap();
        assert_eq!(status, 503, "{answer}");
        let path = format!("/api/projects/{}/cohorts/", access.project);
        let (status, answer) = ask(&service.url, &access, Method::GET, &path, None).unwrap();
        assert_eq!((status, &answer["code"]), (503, &json!("unavailable")));
        proxy.cut.store(false, Ordering::Relaxed);
        until("it is taken again", &mut send);
    }
    proxy.delay.store(20, Ordering::Relaxed);
    assert!(send());
    proxy.delay.store(0, Ordering::Relaxed);
    // A refused event may be stored, if only its acknowledgement was lost. The next event has the same uuid.
    let exact = json!({"properties": {"type": "AND", "values": [{"type": "behavioral", "key": "x",
        "value": "performed_event_multiple", "event_type": "events", "time_value": 1, "time_interval": "day",
        "operator": "exact", "operator_value": acknowledged}]}});
    assert_eq!(
        count(&service.url, &access, &exact),
        1,
        "{acknowledged} events"
    );
    assert!(service.stop());
}

/// The path of a program of PostgreSQL, if it is installed.
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
fn restored_dump_has_the_same_cohorts() {
    let (Some(dump), Some(restore)) = (postgres_program("pg_dump"), postgres_program("pg_restore"))
    else {
        assert!(
            std::env::var_os("COHORTS_TEST_REQUIRE").is_none(),
            "there is no pg_dump"
        );
        return;
    };
    let directory = TempDir::new().unwrap();
    let url = database();
    let at = Location::Url(url.clone());
    let access = at.project();
    let service = Service::start(&at, &[]);
    let batch = (0..300)
        .map(|nth| event(&format!("p{}", nth % 100), nth))
        .collect();
    assert!(sent(&service.url, &access, &batch));
    let body = json!({"name": "c", "filters": often(3)});
    let creation = well(&service.url, &access, Method::POST, "cohorts/", Some(&body));
    let path = format!("cohorts/{}/", creation["id"]);
    until("it is calculated", || {
        well(&service.url, &access, Method::GET, &path, None)["count"] == 100
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
        .arg(url);
    command.args(without.map(|table| format!("--exclude-table-data={table}")));
    assert!(command.status().unwrap().success());
    let restored = database();
    let mut command = Command::new(restore);
    command
        .args(["--no-owner", "--dbname"])
        .arg(&restored)
        .arg(&file);
    assert!(command.status().unwrap().success());

    let at = Location::Url(restored);
    let service = Service::start(&at, &[]);
    let shown = well(&service.url, &access, Method::GET, &path, None);
    assert_eq!(
        (&shown["count"], &shown["name"]),
        (&json!(100), &json!("c"))
    );
    assert_eq!(count(&service.url, &access, &often(3)), 100);
    let mut examined = at.command(&["doctor"]);
    let text = examined.output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("ok        counts"), "{text}");
}

/// A file system of a few megabytes, if the machine permits one.
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
fn full_disk_is_reported_and_loses_no_acknowledged_event() {
    let Some(small) = Small::new(200) else {
        // Only root can mount a file system.
        return;
    };
    let at = Location::Directory(small.0.path().join("data"));
    let access = at.project();
    let service = Service::start(&at, &[]);
    // The text is not compressible.
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
    let mut acknowledged = 0_usize;
    let mut send = || {
        let mut item = event("p", acknowledged as u128);
        item["properties"]["text"] = json!(format!("{text}{acknowledged}"));
        let body = json!({"api_key": access.token, "batch": [item]});
        let (status, answer) =
            ask(&service.url, &access, Method::POST, "/batch/", Some(&body)).unwrap_or_default();
        acknowledged += usize::from(status == 200);
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
        "operator": "exact", "operator_value": acknowledged}]}});
    assert_eq!(
        count(&service.url, &access, &exact),
        1,
        "{acknowledged} events"
    );
}
