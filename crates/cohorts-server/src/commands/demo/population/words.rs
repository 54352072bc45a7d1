//! The words of generated names and properties.

use rand::RngExt;
use rand::rngs::StdRng;

/// A random word, with equal probability.
pub(super) fn pick(words: &[&'static str], rng: &mut StdRng) -> &'static str {
    words[rng.random_range(0..words.len())]
}

pub(super) const GIVEN_NAMES: [&str; 56] = [
    "Ada", "Aiko", "Alba", "Amara", "Anders", "Anna", "Arjun", "Bea", "Bruno", "Camille", "Carlos",
    "Chen", "Clara", "Dario", "Diego", "Eda", "Elena", "Emil", "Emma", "Farah", "Felix", "Freya",
    "Gita", "Hana", "Hugo", "Ida", "Ines", "Ivan", "Jamal", "Jonas", "Julia", "Kai", "Kofi",
    "Lars", "Layla", "Leo", "Lina", "Luca", "Maya", "Mei", "Mila", "Nadia", "Noah", "Nora", "Olga",
    "Omar", "Otto", "Paula", "Priya", "Rosa", "Sami", "Sofia", "Theo", "Uma", "Yusuf", "Zoe",
];

pub(super) const FAMILY_NAMES: [&str; 56] = [
    "Abebe",
    "Almeida",
    "Andersson",
    "Bakker",
    "Bauer",
    "Berg",
    "Bianchi",
    "Brandt",
    "Castro",
    "Cohen",
    "Costa",
    "Demir",
    "Diallo",
    "Duarte",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Fontaine",
    "Garcia",
    "Hansen",
    "Haddad",
    "Horvat",
    "Ito",
    "Ivanova",
    "Jansen",
    "Kaya",
    "Keller",
    "Khan",
    "Kim",
    "Kowalski",
    "Lambert",
    "Larsen",
    "Lindqvist",
    "Lopez",
    "Mancini",
    "Mbeki",
    "Meyer",
    "Moreau",
    "Nakamura",
    "Navarro",
    "Novak",
    "Okafor",
    "Olsen",
    "Papadakis",
    "Park",
    "Patel",
    "Pereira",
    "Petrov",
    "Rossi",
    "Sato",
    "Schmidt",
    "Silva",
    "Singh",
    "Tanaka",
    "Weber",
    "Yilmaz",
];

pub(super) const COMPANIES: [&str; 30] = [
    "Alder",
    "Amber",
    "Beacon",
    "Birch",
    "Cobalt",
    "Coral",
    "Delta",
    "Ember",
    "Fjord",
    "Granite",
    "Harbor",
    "Indigo",
    "Juniper",
    "Kestrel",
    "Lantern",
    "Maple",
    "Meridian",
    "Northwind",
    "Onyx",
    "Pebble",
    "Quarry",
    "Raven",
    "Saffron",
    "Sparrow",
    "Summit",
    "Tidal",
    "Umber",
    "Violet",
    "Willow",
    "Zephyr",
];

pub(super) const TRADES: [&str; 8] = [
    "Analytics",
    "Bakery",
    "Foods",
    "Labs",
    "Logistics",
    "Robotics",
    "Studio",
    "Travel",
];

/// Repeated entries are more frequent.
pub(super) const COUNTRIES: [&str; 20] = [
    "US", "US", "US", "US", "DE", "DE", "DE", "GB", "GB", "FR", "FR", "ES", "PT", "IT", "NL", "SE",
    "IN", "IN", "BR", "JP",
];

pub(super) const BROWSERS: [&str; 8] = [
    "Chrome", "Chrome", "Chrome", "Chrome", "Safari", "Safari", "Firefox", "Edge",
];

pub(super) const PATHS: [&str; 12] = [
    "/",
    "/",
    "/projects",
    "/projects",
    "/dashboard",
    "/dashboard",
    "/reports",
    "/pricing",
    "/settings",
    "/team",
    "/help",
    "/billing",
];

pub(super) const LOGIN_METHODS: [&str; 4] = ["password", "password", "google", "sso"];

pub(super) const SEARCHES: [&str; 10] = [
    "invoice",
    "export",
    "retention",
    "quarterly report",
    "api key",
    "invite",
    "churn",
    "template",
    "dark mode",
    "refund",
];

pub(super) const FILE_TYPES: [&str; 6] = ["pdf", "csv", "csv", "png", "xlsx", "docx"];

pub(super) const PRODUCTS: [&str; 5] = ["seat", "storage", "report pack", "support", "credits"];

pub(super) const REASONS: [&str; 5] = [
    "too expensive",
    "missing a feature",
    "changed jobs",
    "too complicated",
    "only trying it out",
];
