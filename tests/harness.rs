//! One Postgres and one server for all tests, and a new project for each test.
//!
//! The shared server calculates only when a test calls `settle`. Every response is checked against the contract.
//! A test that needs other settings starts a server of its own on a new database of the same Postgres.

use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cohorts_server::postgres::Ephemeral;
use cohorts_server::{Config, Data, Database, SecretKey, SecretKeySource, Server, commands};
use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder};

mod answer;
mod criteria;
mod lookups;
mod project;

pub use answer::{Answer, assert_detail, assert_invalid, first_ids, id_of, rows, send};
pub use criteria::{any_of, did, in_cohort, only, person};
pub use lookups::{count, find_person, metric, person_count};
pub use project::{EMAIL, Project, cohort_names, cohort_path, key, upload};

const TEMPLATE: &str = "template_of_tests";

/// The Postgres of all servers, with a database that has all tables.
static POSTGRES: LazyLock<Ephemeral> = LazyLock::new(|| {
    let postgres = Ephemeral::start(std::env::var_os("COHORTS_PG_BIN").map(PathBuf::from));
    postgres.create_database(TEMPLATE, None);
    let template = Database::Url(postgres.url_for(TEMPLATE));
    drop(Data::open(&template).expect("a migrated template"));
    postgres
});
/// The URL of an empty database on the coordinator of a Citus cluster, where the shared server then works.
///
/// The person tables are distributed first. Tests with a server of their own use plain Postgres.
const CITUS: &str = "COHORTS_TEST_CITUS";
static SERVER: LazyLock<Server> = LazyLock::new(|| match std::env::var(CITUS) {
    Ok(url) => start_on_citus(url),
    Err(_) => {
        // The test runner captures `eprintln!`.
        let message = format!("SKIPPED all tests on Citus: {CITUS} is not set");
        writeln!(std::io::stderr(), "{message}").expect("standard error");
        start(|_| {})
    }
});
static SERVERS: AtomicU32 = AtomicU32::new(0);
static CLIENT: LazyLock<Client> = LazyLock::new(Client::new);

/// A server on a new database, which calculates nothing in the background unless `change` says so.
pub fn start(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = config();
    change(&mut config);
    Server::start(&config).expect("a server")
}

fn start_on_citus(url: String) -> Server {
    let database = Database::Url(url);
    let data = Data::open(&database).expect("a migrated database");
    commands::distribute::run(&data).expect("distributed tables");
    drop(data);
    Server::start(&config_for(database)).expect("a server")
}

/// The settings of a server on a new database, which calculates nothing in the background.
pub fn config() -> Config {
    let name = format!("test_{}", SERVERS.fetch_add(1, Ordering::Relaxed));
    POSTGRES.create_database(&name, Some(TEMPLATE));
    config_for(Database::Url(POSTGRES.url_for(&name)))
}

/// The settings of the servers of tests.
fn config_for(database: Database) -> Config {
    let mut config = Config::new(([127, 0, 0, 1], 0).into(), database);
    config.calculate = false;
    config.handle_signals = false;
    config.webhooks.send = false;
    config.webhooks.secret_key = SecretKeySource::Key(secret_key());
    // All tests are one client.
    config.wrong_keys_per_minute = u32::MAX;
    config
}

/// The key that encrypts the secrets of webhooks.
fn secret_key() -> SecretKey {
    SecretKey::parse(&"01".repeat(32)).expect("a key")
}

/// The server that tests share.
pub fn server() -> &'static Server {
    &SERVER
}

/// A request to the shared server.
pub fn request(method: Method, path: &str) -> RequestBuilder {
    request_to(server(), method, path)
}

/// A request to a server.
pub fn request_to(server: &Server, method: Method, path: &str) -> RequestBuilder {
    CLIENT.request(method, format!("{}{path}", server.url()))
}

/// Sends a GET without a key to the shared server.
pub fn get(path: &str) -> Answer {
    send(&Method::GET, request(Method::GET, path))
}
