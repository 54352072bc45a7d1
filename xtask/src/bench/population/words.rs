//! The values of the synthetic population, some with the weights of a choice.

pub const EVENTS: [&str; 30] = [
    "$pageview",
    "$autocapture",
    "$pageleave",
    "$identify",
    "purchase",
    "add_to_cart",
    "search",
    "$feature_flag_called",
    "view_item",
    "checkout_started",
    "video_played",
    "share",
    "comment",
    "like",
    "follow",
    "export",
    "invite_sent",
    "settings_changed",
    "upload",
    "churn_survey",
    "download",
    "login",
    "logout",
    "help_opened",
    "trial_started",
    "plan_changed",
    "api_key_created",
    "webhook_added",
    "error_seen",
    "signup_completed",
];
/// The index of `$pageview` in [`EVENTS`].
pub const PAGEVIEW: usize = 0;
/// The index of `purchase` in [`EVENTS`].
pub const PURCHASE: usize = 4;
/// The index of `churn_survey` in [`EVENTS`].
pub const SURVEY: usize = 19;
/// The index of `signup_completed` in [`EVENTS`].
pub const SIGNUP: usize = 29;
pub const BROWSERS: [(&str, f64); 6] = [
    ("Chrome", 0.62),
    ("Safari", 0.2),
    ("Firefox", 0.07),
    ("Edge", 0.06),
    ("Opera", 0.03),
    ("Samsung Internet", 0.02),
];
pub const PLANS: [(&str, f64); 4] = [
    ("free", 0.7),
    ("starter", 0.17),
    ("pro", 0.1),
    ("enterprise", 0.03),
];
pub const COUNTRIES: [&str; 20] = [
    "US", "DE", "GB", "FR", "IN", "BR", "CA", "AU", "NL", "ES", "IT", "PL", "SE", "JP", "KR", "MX",
    "CH", "AT", "BE", "DK",
];
pub const FIRST_NAMES: [&str; 16] = [
    "anna", "ben", "carla", "dan", "eva", "finn", "gina", "hans", "ida", "jon", "kim", "leo",
    "mia", "noah", "olga", "Paul",
];
pub const LAST_NAMES: [&str; 16] = [
    "smith", "jones", "meyer", "schmidt", "silva", "garcia", "brown", "lee", "patel", "novak",
    "rossi", "dubois", "larsen", "sato", "costa", "Goldman",
];
pub const DOMAINS: [(&str, f64); 5] = [
    ("gmail.com", 0.45),
    ("outlook.com", 0.25),
    ("yahoo.com", 0.15),
    ("example.org", 0.1),
    ("acme.io", 0.05),
];
