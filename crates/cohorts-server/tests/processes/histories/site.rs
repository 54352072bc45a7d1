//! The processes of one database: services that are started again after a kill, and a private Postgres.

use std::cell::{Cell, RefCell};

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use super::kill_orders::KillOrders;
use crate::harness::{Access, Location, Service, ask, until};

pub struct Site {
    _directory: TempDir,
    pub at: Location,
    pub orders: KillOrders,
    services: RefCell<Vec<Service>>,
    next: Cell<usize>,
}

impl Site {
    pub fn start(processes: usize) -> Self {
        let directory = TempDir::new().unwrap();
        let site = Self {
            at: Location::Directory(directory.path().join("data")),
            orders: KillOrders::new(directory.path()),
            services: RefCell::default(),
            next: Cell::default(),
            _directory: directory,
        };
        for _ in 0..processes {
            let service = site.start_service();
            site.services.borrow_mut().push(service);
        }
        site
    }

    fn start_service(&self) -> Service {
        let variables = [("COHORTS_KILL_POINTS", self.orders.folder())];
        Service::start_with(&self.at, &[], &variables)
    }

    /// The address of the next service in turn. Services that were killed are started again first.
    fn url(&self) -> String {
        let mut services = self.services.borrow_mut();
        for service in services.iter_mut() {
            if service.has_ended() {
                *service = self.start_service();
            }
        }
        self.next.set(self.next.get() + 1);
        services[self.next.get() % services.len()].url.clone()
    }

    /// Sends a request until a service answers it. The request may be executed more than once.
    pub fn request(
        &self,
        access: &Access,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Value {
        self.repeat(&format!("{method} {path}"), |url| {
            let (status, answer) = ask(url, access, method.clone(), path, body)?;
            let is_transient = status >= 500 || status == 429;
            let is_done =
                (200..300).contains(&status) || (status, method) == (404, &Method::DELETE);
            assert!(
                is_transient || is_done,
                "{method} {path}: {status} {answer}"
            );
            is_done.then_some(answer)
        })
    }

    /// Calls `attempt` with an address until it succeeds.
    pub fn repeat<T>(&self, what: &str, attempt: impl Fn(&str) -> Option<T>) -> T {
        let mut result = None;
        until(what, || {
            result = attempt(&self.url());
            result.is_some()
        });
        result.unwrap()
    }

    /// Stops all services, and returns where the data is.
    pub fn stop(&self) -> Location {
        for service in self.services.take() {
            assert!(service.stop());
        }
        self.at.clone()
    }
}
