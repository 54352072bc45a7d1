//! The types of the document in the form that the printers need.

/// The position of an item in [`Model::items`].
pub type ItemId = usize;

/// The named types, in the order in which they were found.
#[derive(Default)]
pub struct Model {
    pub items: Vec<Item>,
}

/// A named type.
#[derive(Clone)]
pub struct Item {
    /// The Rust name.
    pub name: String,
    /// The component schema; `None` for a schema that is named by its location.
    pub component: Option<String>,
    pub location: String,
    pub description: Option<String>,
    pub shape: Shape,
}

#[derive(Clone)]
pub enum Shape {
    /// Not read yet: the schema refers to itself.
    Pending,
    Struct(Struct),
    Enum(Enumeration),
    Union(Union),
}

#[derive(Clone, Default)]
pub struct Struct {
    pub fields: Vec<Field>,
    /// The type of the members that are not described. `None` if they are ignored.
    pub rest: Option<Type>,
    /// Whether members that are not described are an error.
    pub closed: bool,
    /// Whether null and absent differ in every field.
    pub patch: bool,
    /// Names of ignored members, if a member with a name near that of a field is an error.
    pub ignored: Option<Vec<String>>,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
}

#[derive(Clone)]
pub struct Field {
    /// The name in JSON.
    pub name: String,
    /// The Rust name.
    pub rust: String,
    pub description: Option<String>,
    pub r#type: Type,
    pub required: bool,
    pub default: Option<serde_json::Value>,
    pub read_only: bool,
    pub write_only: bool,
    pub deprecated: bool,
    /// Whether null passes as a value of its own.
    pub null_passes: bool,
    /// Whether the server always sends it, although it is not required.
    pub always_sent: bool,
}

/// The values of a text.
#[derive(Clone)]
pub struct Enumeration {
    pub choices: Vec<Choice>,
    /// How other texts are read. `None` if they are errors.
    pub other: Option<OtherText>,
}

/// The texts that an open enum does not list.
#[derive(Clone)]
pub struct OtherText {
    /// The Rust name of the variant.
    pub rust: String,
    pub r#type: Type,
}

/// A value of an enum.
#[derive(Clone)]
pub struct Choice {
    pub value: String,
    pub rust: String,
}

#[derive(Clone)]
pub struct Union {
    pub alternatives: Vec<Alternative>,
    /// The property that selects the alternative.
    pub tag: Option<String>,
    /// Whether exactly one alternative must match a body.
    pub exclusive: bool,
}

#[derive(Clone)]
pub struct Alternative {
    pub rust: String,
    pub r#type: Type,
    /// The values of the tag.
    pub tags: Vec<String>,
}

#[derive(Clone)]
pub struct Type {
    pub kind: TypeKind,
    pub nullable: bool,
    /// Constraints that the kind does not contain.
    pub limits: Vec<Limit>,
}

#[derive(Clone)]
pub enum TypeKind {
    /// Any JSON value.
    Json,
    /// JSON with its original text.
    RawJson,
    Text {
        trim: bool,
        min_length: u64,
        max_length: Option<u64>,
    },
    /// A text that is one of these. It has no enum, because one of them is empty.
    Word(Vec<String>),
    Uuid,
    Date,
    Instant,
    Boolean,
    Integer {
        bits: u8,
        minimum: Option<i64>,
        maximum: Option<i64>,
    },
    Number {
        bits: u8,
    },
    List {
        item: Box<Type>,
        max_items: Option<u64>,
    },
    Map(Box<Type>),
    /// An object without a description of its members.
    Object,
    Item(ItemId),
}

#[derive(Clone, PartialEq)]
pub enum Limit {
    Pattern(String),
    /// A format that the hand-written runtime does not check.
    Format(String),
    Minimum {
        bound: f64,
        exclusive: bool,
    },
    Maximum {
        bound: f64,
        exclusive: bool,
    },
    MultipleOf(f64),
    OneOf(Vec<i64>),
    MinItems(u64),
    UniqueItems,
    MinProperties(u64),
    MaxProperties(u64),
}

impl Type {
    pub fn new(kind: TypeKind) -> Self {
        Self {
            kind,
            nullable: false,
            limits: Vec::new(),
        }
    }

    pub fn item(&self) -> Option<ItemId> {
        match self.kind {
            TypeKind::Item(id) => Some(id),
            _ => None,
        }
    }
}

impl Model {
    pub fn struct_of(&self, r#type: &Type) -> Option<&Struct> {
        match &self.items.get(r#type.item()?)?.shape {
            Shape::Struct(shape) => Some(shape),
            _ => None,
        }
    }

    /// The items that contain each item directly: not in a list or a map.
    pub fn holders(&self) -> Vec<Vec<ItemId>> {
        let mut holders = vec![Vec::new(); self.items.len()];
        for (holder, item) in self.items.iter().enumerate() {
            let parts: Vec<&Type> = match &item.shape {
                Shape::Struct(shape) => shape.fields.iter().map(|field| &field.r#type).collect(),
                Shape::Union(shape) => {
                    let alternatives = shape.alternatives.iter();
                    alternatives
                        .map(|alternative| &alternative.r#type)
                        .collect()
                }
                Shape::Pending | Shape::Enum(_) => Vec::new(),
            };
            for part in parts.into_iter().filter_map(Type::item) {
                holders[part].push(holder);
            }
        }
        holders
    }
}

/// Whether each item is `id`, or contains it directly or inside others. If it is a part of `id`, it needs a box there.
pub fn containers(holders: &[Vec<ItemId>], id: ItemId) -> Vec<bool> {
    let mut is_container = vec![false; holders.len()];
    let mut queue = vec![id];
    while let Some(next) = queue.pop() {
        if !std::mem::replace(&mut is_container[next], true) {
            queue.extend(&holders[next]);
        }
    }
    is_container
}
