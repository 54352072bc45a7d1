//! One generated person: properties, period of activity, and next event.

use chrono::NaiveDate;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::words::{self, pick};

/// The traits that determine a person's events. Small, because all persons are in memory.
pub(super) struct SyntheticPerson {
    plan: Plan,
    signed_up_minutes_ago: u32,
    /// Days since the last activity. If the sign-up is later, the person has no activity.
    inactive_days: u16,
    browser: u8,
}

#[derive(Clone, Copy, PartialEq)]
enum Plan {
    Free,
    Starter,
    Pro,
    Enterprise,
}

impl Plan {
    const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Starter => "starter",
            Self::Pro => "pro",
            Self::Enterprise => "enterprise",
        }
    }

    /// Purchases per hundred events.
    const fn purchase_percent(self) -> u32 {
        match self {
            Self::Free => 1,
            Self::Starter => 4,
            Self::Pro => 6,
            Self::Enterprise => 5,
        }
    }
}

impl SyntheticPerson {
    pub(super) fn generate(rng: &mut StdRng) -> Self {
        let plan = match rng.random_range(0..100) {
            0..58 => Plan::Free,
            58..80 => Plan::Starter,
            80..95 => Plan::Pro,
            _ => Plan::Enterprise,
        };
        // The product grows: about half of the persons signed up in the last eight months.
        let days_ago = 730.0 * rng.random::<f64>().powf(1.6);
        let inactive_days = match rng.random_range(0..100) {
            0..12 => u16::MAX,
            12..30 => rng.random_range(5..55),
            _ => 0,
        };
        Self {
            plan,
            signed_up_minutes_ago: (days_ago * 1440.0) as u32,
            inactive_days,
            browser: rng.random_range(0..words::BROWSERS.len()) as u8,
        }
    }

    pub(super) fn signed_up_minutes_ago(&self) -> i64 {
        i64::from(self.signed_up_minutes_ago)
    }

    pub(super) fn signed_up_days_ago(&self) -> f64 {
        f64::from(self.signed_up_minutes_ago) / 1440.0
    }

    /// Whether the person has events after the sign-up.
    pub(super) fn is_active(&self) -> bool {
        f64::from(self.inactive_days) < self.signed_up_days_ago()
    }

    /// Whether the person has signed up and is not inactive at that time.
    pub(super) fn is_present(&self, days_ago: f64) -> bool {
        days_ago < self.signed_up_days_ago() && days_ago > f64::from(self.inactive_days)
    }

    /// Whether the plan costs something.
    pub(super) fn is_paying(&self) -> bool {
        self.plan != Plan::Free
    }

    pub(super) fn browser(&self) -> &'static str {
        words::BROWSERS[usize::from(self.browser)]
    }

    /// The properties at sign-up. Some are missing for some persons.
    pub(super) fn properties(&self, number: u32, signed_up: NaiveDate, rng: &mut StdRng) -> Value {
        let given = pick(&words::GIVEN_NAMES, rng);
        let family = pick(&words::FAMILY_NAMES, rng);
        let company = self.company(rng);
        let domain = company.as_deref().map_or_else(
            || "mail".to_owned(),
            |name| name.to_lowercase().replace(' ', "-"),
        );
        let mailbox = format!("{given}.{family}").to_lowercase();
        let mut properties = json!({
            "name": format!("{given} {family}"),
            "email": format!("{mailbox}.{number}@{domain}.example"),
            "plan": self.plan.name(),
            "country": pick(&words::COUNTRIES, rng),
            "signed_up": signed_up.to_string(),
        });
        if let Some(company) = company {
            properties["company"] = company.into();
        }
        if rng.random_bool(0.9) {
            // The sum of two ranges has a peak in the middle, as ages have.
            properties["age"] = (rng.random_range(18..44) + rng.random_range(0..28)).into();
        }
        properties
    }

    fn company(&self, rng: &mut StdRng) -> Option<String> {
        let employed = if self.plan == Plan::Free { 0.45 } else { 0.97 };
        let name = rng.random_bool(employed);
        name.then(|| {
            format!(
                "{} {}",
                pick(&words::COMPANIES, rng),
                pick(&words::TRADES, rng)
            )
        })
    }

    /// The name and the properties of a random event of the person.
    pub(super) fn next_event(&self, days_ago: f64, rng: &mut StdRng) -> (&'static str, Value) {
        let leaves_soon = self.inactive_days > 0 && days_ago - f64::from(self.inactive_days) < 6.0;
        let chance = rng.random_range(0..100);
        if leaves_soon && chance < 20 {
            return self.event("churn_survey", answers(rng));
        }
        if chance < self.plan.purchase_percent() {
            return self.event("purchase", purchase(self.plan, rng));
        }
        match rng.random_range(0..100) {
            0..62 => self.event("$pageview", visit(rng)),
            62..76 => self.event("search", search(rng)),
            76..90 => self.event("login", json!({"method": pick(&words::LOGIN_METHODS, rng)})),
            _ => self.event("upload", upload(rng)),
        }
    }

    fn event(&self, name: &'static str, mut properties: Value) -> (&'static str, Value) {
        properties["$browser"] = self.browser().into();
        (name, properties)
    }
}

fn visit(rng: &mut StdRng) -> Value {
    let path = pick(&words::PATHS, rng);
    json!({"$current_url": format!("https://app.example{path}"), "$pathname": path})
}

fn search(rng: &mut StdRng) -> Value {
    json!({"query": pick(&words::SEARCHES, rng), "results": rng.random_range(0..40)})
}

fn upload(rng: &mut StdRng) -> Value {
    json!({"file_type": pick(&words::FILE_TYPES, rng), "size_kb": rng.random_range(4..9_000)})
}

fn answers(rng: &mut StdRng) -> Value {
    json!({"reason": pick(&words::REASONS, rng), "score": rng.random_range(0..=6)})
}

fn purchase(plan: Plan, rng: &mut StdRng) -> Value {
    let cents = match plan {
        Plan::Free | Plan::Starter => rng.random_range(400..4_900),
        Plan::Pro => rng.random_range(1_900..19_900),
        Plan::Enterprise => rng.random_range(9_900..240_000),
    };
    json!({"product": pick(&words::PRODUCTS, rng), "amount": f64::from(cents) / 100.0, "currency": "EUR"})
}
