//! A project with cohorts of several kinds, and random changes of its data.

use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use rand::RngExt;
use rand::rngs::StdRng;
use reqwest::Method;
use reqwest::blocking::{Client, multipart};
use serde_json::{Value, json};

use super::site::Site;
use crate::harness::{Access, often, until_right};

/// The persons of a history.
const PERSONS: usize = 8;
/// The ids with which a person keeps its ordinal in a merge into another one.
const MANY_IDS: usize = 70;

pub struct LivingProject<'a> {
    pub site: &'a Site,
    pub access: Access,
    /// The ids of the cohorts, the static one first.
    pub cohorts: Vec<i64>,
    prefix: u64,
    events: u64,
}

impl<'a> LivingProject<'a> {
    pub fn create(site: &'a Site, rng: &mut StdRng) -> Self {
        Self {
            site,
            access: site.at.project(),
            cohorts: Vec::new(),
            prefix: rng.random(),
            events: 0,
        }
    }

    pub fn path(&self, path: &str) -> String {
        format!("/api/projects/{}/{path}", self.access.project)
    }

    pub fn get(&self, path: &str) -> Value {
        self.ask(&Method::GET, path, None)
    }

    fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> Value {
        (self.site).request(&self.access, method, &self.path(path), body)
    }

    /// Creates a static cohort, and dynamic ones by events, counts, absence, properties, windows and other cohorts.
    pub fn create_cohorts(&mut self, rng: &mut StdRng) {
        self.create_cohort(json!({"is_static": true}));
        let listed = json!({"type": "cohort", "key": "id", "value": self.cohorts[0]});
        let pro = json!({"type": "person", "key": "plan", "operator": "exact", "value": "pro"});
        let last_hour = json!({"type": "behavioral", "value": "performed_event", "key": "x",
            "event_type": "events", "time_value": 1, "time_interval": "hour"});
        let mut not_last_hour = last_hour.clone();
        not_last_hour["negation"] = json!(true);
        let known = json!({"type": "person", "key": "is", "operator": "is_set", "value": "is_set"});
        self.create_cohort(json!({"filters": often(1)}));
        let least = rng.random_range(2..4);
        self.create_cohort(json!({"filters": often(least)}));
        for leaves in [
            json!([pro]),
            json!([last_hour]),
            json!([known, not_last_hour]),
            json!([listed, last_hour]),
        ] {
            let filters = json!({"properties": {"type": "AND", "values": leaves}});
            self.create_cohort(json!({"filters": filters}));
        }
        let nested = json!([{"type": "cohort", "key": "id", "value": self.cohorts[2]}, listed]);
        let filters = json!({"properties": {"type": "OR", "values": nested}});
        self.create_cohort(json!({"filters": filters}));
    }

    fn create_cohort(&mut self, mut body: Value) {
        body["name"] = json!(format!("c{}", self.cohorts.len()));
        // A creation that was committed and not answered leaves a further cohort, which changes nothing.
        let created = self.ask(&Method::POST, "cohorts/", Some(&body));
        self.cohorts.push(created["id"].as_i64().unwrap());
    }

    /// Makes a random change.
    pub fn change(&mut self, rng: &mut StdRng) {
        match rng.random_range(0..22) {
            0..9 => self.capture(rng),
            9..11 => self.merge(rng),
            11..13 => self.delete_person(rng),
            13..16 => self.upload(rng),
            16..18 => self.edit_criteria(rng),
            18 => self.create_once(),
            19 => self.delete_once(rng),
            _ => self.remove_member(rng),
        }
    }

    /// Makes a change that leads to a point.
    pub fn reach(&mut self, point: &str, rng: &mut StdRng) {
        match point {
            _ if point.starts_with("Calculation") => self.edit_criteria(rng),
            _ if point.starts_with("Upload") => self.upload(rng),
            _ if point.starts_with("Deletion") => {
                self.capture(rng);
                self.delete_person(rng);
            }
            "RequestCommitted" if rng.random_bool(0.5) => self.create_once(),
            "RequestCommitted" => self.delete_once(rng),
            _ => self.capture(rng),
        }
    }

    fn person(&self, rng: &mut StdRng) -> String {
        format!("p{}", rng.random_range(0..PERSONS))
    }

    fn uuid(&mut self) -> String {
        self.events += 1;
        let bits = u128::from(self.prefix) << 64 | u128::from(self.events);
        format!("{:032x}", bits & !(0xf << 76) | 4 << 76)
    }

    /// Sends a POST with an `Idempotency-Key` until it is answered; `None` if it was carried out and its response is lost.
    fn post_once(&self, path: &str, key: &str, body: &Value) -> Option<Value> {
        let path = self.path(path);
        let client = Client::builder().timeout(Duration::from_secs(30));
        let client = client.build().unwrap();
        self.site.repeat("a request with a key", |url| {
            let request = client.post(format!("{url}{path}"));
            let request = request.bearer_auth(&self.access.key);
            let request = request.header("Idempotency-Key", key).json(body);
            let response = request.send().ok()?;
            let status = response.status().as_u16();
            let answer: Value = response.json().ok()?;
            match (status, answer["code"].as_str()) {
                (200..300, _) => Some(Some(answer)),
                (409, Some("response_not_stored")) => Some(None),
                (409, Some("request_running")) | (429 | 500.., _) => None,
                _ => panic!("{path}: {status} {answer}"),
            }
        })
    }

    /// Creates a cohort by a request with a key, which is sent once more.
    fn create_once(&mut self) {
        let key = self.uuid();
        let body = json!({"name": key, "is_static": true});
        let [first, retry] = [(); 2].map(|()| self.post_once("cohorts/", &key, &body));
        assert_eq!(first, retry);
        assert_eq!(self.get(&format!("cohorts/?search={key}"))["count"], 1);
    }

    /// Deletes persons by a request with a key, which is sent once more when the first one is there again.
    fn delete_once(&mut self, rng: &mut StdRng) {
        let key = self.uuid();
        let person = self.person(rng);
        let body = json!({"distinct_ids": [person, self.person(rng)]});
        let event = json!({"event": "x", "distinct_id": person, "uuid": self.uuid()});
        self.send(&[event]);
        let found = |this: &Self| {
            let found = this.get(&format!("persons/?distinct_id={person}"));
            found["results"].as_array().unwrap().len()
        };
        let first = self.post_once("persons/bulk_delete/", &key, &body);
        assert_eq!(found(self), 0, "{first:?}");
        let event = json!({"event": "x", "distinct_id": person, "uuid": self.uuid()});
        self.send(&[event]);
        assert_eq!(self.post_once("persons/bulk_delete/", &key, &body), first);
        assert_eq!(found(self), 1, "{first:?}");
    }

    /// Sends a few events. Some are almost an hour old, so that they leave the window soon.
    fn capture(&mut self, rng: &mut StdRng) {
        let events = (0..rng.random_range(1..6)).map(|_| {
            let age = match rng.random_range(0..3) {
                0 => TimeDelta::milliseconds(3_600_000 - rng.random_range(500..6_000)),
                1 => TimeDelta::minutes(rng.random_range(0..90)),
                _ => TimeDelta::zero(),
            };
            let at = (Utc::now() - age).to_rfc3339_opts(SecondsFormat::Micros, true);
            let plan = if rng.random_bool(0.5) { "pro" } else { "free" };
            json!({"event": "x", "distinct_id": self.person(rng), "uuid": self.uuid(), "timestamp": at,
                "properties": {"$set": {"is": "there", "plan": plan}}})
        });
        let events: Vec<Value> = events.collect();
        self.send(&events);
    }

    fn send(&self, events: &[Value]) {
        let body = json!({"api_key": self.access.token, "batch": events});
        (self.site).request(&self.access, &Method::POST, "/batch/", Some(&body));
    }

    /// Merges two persons. If the merged one has many ids, the other moves to its ordinal.
    fn merge(&mut self, rng: &mut StdRng) {
        let (into, from) = (self.person(rng), self.person(rng));
        if rng.random_bool(0.5) {
            let aliases = (0..MANY_IDS).map(|_| {
                let uuid = self.uuid();
                let alias = format!("{from} {uuid}");
                json!({"event": "$create_alias", "distinct_id": from, "uuid": uuid,
                    "properties": {"alias": alias}})
            });
            let aliases: Vec<Value> = aliases.collect();
            self.send(&aliases);
        }
        if into != from {
            let merge = json!({"event": "$merge_dangerously", "distinct_id": into,
                "uuid": self.uuid(), "properties": {"alias": from}});
            self.send(&[merge]);
        }
    }

    /// The uuid of a random person, if it exists.
    fn find_person(&self, rng: &mut StdRng) -> Option<String> {
        let found = self.get(&format!("persons/?distinct_id={}", self.person(rng)));
        found["results"][0]["uuid"].as_str().map(str::to_owned)
    }

    fn delete_person(&mut self, rng: &mut StdRng) {
        if let Some(uuid) = self.find_person(rng) {
            self.ask(&Method::DELETE, &format!("persons/{uuid}/"), None);
        }
    }

    /// Adds persons to the static cohort, or replaces its members.
    fn upload(&mut self, rng: &mut StdRng) {
        let ids = (0..rng.random_range(1..4)).map(|_| self.person(rng));
        let text = format!("distinct_id\n{}\n", ids.collect::<Vec<_>>().join("\n"));
        let replaces = rng.random_bool(0.3).to_string();
        let path = self.path(&format!("cohorts/{}/", self.cohorts[0]));
        let client = Client::builder().timeout(Duration::from_secs(30));
        let client = client.build().unwrap();
        self.site.repeat("an upload", |url| {
            let file = multipart::Part::text(text.clone()).file_name("persons.csv");
            let form = multipart::Form::new().part("csv", file);
            let form = form.text("create_people", "true");
            let form = form.text("replace_members", replaces.clone());
            let request = client
                .patch(format!("{url}{path}"))
                .bearer_auth(&self.access.key);
            let response = request.multipart(form).send().ok()?;
            let (status, answer) = (response.status(), response.text().ok()?);
            assert!(status.is_success() || status.is_server_error(), "{answer}");
            status.is_success().then_some(())
        });
    }

    /// Removes a person from the static cohort.
    fn remove_member(&mut self, rng: &mut StdRng) {
        if let Some(uuid) = self.find_person(rng) {
            let path = format!(
                "cohorts/{}/remove_person_from_static_cohort/",
                self.cohorts[0]
            );
            let body = json!({"person_id": uuid});
            self.ask(&Method::PATCH, &path, Some(&body));
        }
    }

    /// Changes the least number of events of a cohort.
    fn edit_criteria(&mut self, rng: &mut StdRng) {
        let body = json!({"filters": often(rng.random_range(1..5))});
        let path = format!("cohorts/{}/", self.cohorts[2]);
        self.ask(&Method::PATCH, &path, Some(&body));
    }

    /// The number of persons that match filters now.
    pub fn preview(&self, filters: &Value) -> Value {
        let body = json!({"filters": filters});
        self.ask(&Method::POST, "cohorts/preview/", Some(&body))["count"].clone()
    }

    /// Waits until the members of all dynamic cohorts are as many as match their filters.
    pub fn settle(&self, history: usize) {
        for id in &self.cohorts[1..] {
            until_right(&format!("history {history}: cohort {id}"), || {
                let cohort = self.get(&format!("cohorts/{id}/"));
                let matching = self.preview(&cohort["filters"]);
                let is_right = cohort["is_calculating"] == false
                    && cohort["errors_calculating"] == 0
                    && cohort["count"] == matching;
                is_right
                    .then_some(())
                    .ok_or_else(|| format!("{matching} match, but {cohort}"))
            });
        }
    }
}
