//! Schemas of Avro (specification 1.12, "Schema Declaration"): what is needed to read the values of a record
//! by, or to pass over them.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Schemas within schemas.
const DEPTH_MAX: usize = 32;
/// Named types, fields, symbols and branches of one schema, all together.
const PARTS_MAX: usize = 10_000;
/// One byte of a value stands for a whole symbol.
const SYMBOL_BYTES_MAX: usize = 128;

/// How a value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    /// `int` and `long` are written alike.
    Long(Long),
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(Box<Kind>),
    Map(Box<Kind>),
    Union(Vec<Kind>),
    Record(Vec<Field>),
    /// A type with a name that was defined before: its place in [`Schema::named`].
    Named(usize),
}

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Long {
    Plain,
    Date,
    Millis,
    Micros,
    Nanos,
    /// A time of some day.
    Time,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// The schema of a stream: a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub(crate) fields: Vec<Field>,
    /// Types that have names, in the order in which they are defined.
    pub(crate) named: Vec<Kind>,
}

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// What is wrong with it, or not supported.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
        let mut parser = Parser::default();
        let kind = parser.kind(&json, "", 0)?;
        let Kind::Named(at) = kind else {
            return Err("it is not that of a record".into());
        };
        let Kind::Record(fields) = parser.named[at].clone() else {
            return Err("it is not that of a record".into());
        };
        let schema = Self {
            fields,
            named: parser.named,
        };
        let take = schema.which_take_bytes();
        let mut records = schema.named.iter().zip(&take);
        if records.any(|(kind, takes)| matches!(kind, Kind::Record(_)) && !takes) {
            return Err("it has a record that takes no bytes, or that never ends".into());
        }
        schema
            .named
            .iter()
            .try_for_each(|kind| check(kind, &take))?;
        Ok(schema)
    }

    /// What a kind is, whether or not it goes by a name.
    pub(crate) fn of<'a>(&'a self, kind: &'a Kind) -> &'a Kind {
        match kind {
            Kind::Named(at) => &self.named[*at],
            other => other,
        }
    }

    /// For each type with a name, whether each of its values takes a byte at least.
    fn which_take_bytes(&self) -> Vec<bool> {
        let mut take = vec![false; self.named.len()];
        loop {
            let before = take.clone();
            // What lies within another one comes behind it.
            for at in (0..take.len()).rev() {
                take[at] = match &self.named[at] {
                    Kind::Record(fields) => fields.iter().any(|f| takes_bytes(&f.kind, &take)),
                    kind => takes_bytes(kind, &take),
                };
            }
            if take == before {
                return take;
            }
        }
    }
}

/// Elements must take bytes: of others a few bytes could claim any number.
fn check(kind: &Kind, take: &[bool]) -> Result<(), String> {
    match kind {
        Kind::Array(element) if !takes_bytes(element, take) => {
            Err("it has an array of elements that may take no bytes".into())
        }
        Kind::Array(element) | Kind::Map(element) => check(element, take),
        Kind::Union(branches) => branches.iter().try_for_each(|b| check(b, take)),
        Kind::Record(fields) => fields.iter().try_for_each(|f| check(&f.kind, take)),
        _ => Ok(()),
    }
}

fn takes_bytes(kind: &Kind, take: &[bool]) -> bool {
    match kind {
        Kind::Null | Kind::Fixed(0) => false,
        Kind::Named(at) => take[*at],
        // Records have names.
        _ => true,
    }
}

#[derive(Default)]
struct Parser {
    named: Vec<Kind>,
    /// Where each name is among them.
    places: BTreeMap<String, usize>,
    parts: usize,
}

impl Parser {
    fn kind(&mut self, json: &Value, space: &str, depth: usize) -> Result<Kind, String> {
        self.parts += 1;
        if depth == DEPTH_MAX || self.parts > PARTS_MAX {
            return Err(format!(
                "it has more than {DEPTH_MAX} schemas within one another, or {PARTS_MAX} parts"
            ));
        }
        match json {
            Value::String(name) => self.by_name(name, space),
            Value::Array(branches) => self.union(branches, space, depth),
            Value::Object(object) => self.object(object, space, depth),
            other => Err(format!("{other} is no schema")),
        }
    }

    fn by_name(&self, name: &str, space: &str) -> Result<Kind, String> {
        Ok(match name {
            "null" => Kind::Null,
            "boolean" => Kind::Boolean,
            "int" | "long" => Kind::Long(Long::Plain),
            "float" => Kind::Float,
            "double" => Kind::Double,
            "bytes" => Kind::Bytes,
            "string" => Kind::String,
            _ => {
                let full = full_name(name, space);
                let at = self.places.get(&full).or_else(|| self.places.get(name));
                Kind::Named(*at.ok_or_else(|| format!("there is no type '{name}'"))?)
            }
        })
    }

    fn union(&mut self, branches: &[Value], space: &str, depth: usize) -> Result<Kind, String> {
        let mut kinds = Vec::new();
        for branch in branches {
            if branch.is_array() {
                return Err("a union is a branch of a union".into());
            }
            kinds.push(self.kind(branch, space, depth + 1)?);
        }
        if kinds.is_empty() {
            return Err("a union has no branches".into());
        }
        Ok(Kind::Union(kinds))
    }

    fn object(
        &mut self,
        object: &Map<String, Value>,
        space: &str,
        depth: usize,
    ) -> Result<Kind, String> {
        let of = object.get("type").ok_or("an object has no 'type'")?;
        let Value::String(name) = of else {
            return self.kind(of, space, depth + 1);
        };
        let inner = |member: &str| {
            let inner = object.get(member);
            inner.ok_or_else(|| format!("{name} has no '{member}'"))
        };
        match &name[..] {
            "record" | "error" | "enum" | "fixed" => self.define(name, object, space, depth),
            "array" => {
                let element = self.kind(inner("items")?, space, depth + 1)?;
                Ok(Kind::Array(Box::new(element)))
            }
            "map" => {
                let element = self.kind(inner("values")?, space, depth + 1)?;
                Ok(Kind::Map(Box::new(element)))
            }
            _ => {
                let logical = object.get("logicalType").and_then(Value::as_str);
                Ok(with_meaning(self.by_name(name, space)?, name, logical))
            }
        }
    }

    /// A type with a name: it may name itself within.
    fn define(
        &mut self,
        what: &str,
        object: &Map<String, Value>,
        space: &str,
        depth: usize,
    ) -> Result<Kind, String> {
        let name = object.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| format!("{what} has no 'name'"))?;
        let own = object.get("namespace").and_then(Value::as_str);
        let full = full_name(name, own.unwrap_or(space));
        let space = full
            .rsplit_once('.')
            .map_or("", |(space, _)| space)
            .to_string();
        let at = self.named.len();
        if self.places.insert(full, at).is_some() {
            return Err(format!("there are two types '{name}'"));
        }
        self.named.push(Kind::Null);
        self.named[at] = match what {
            "enum" => Kind::Enum(self.symbols(object)?),
            "fixed" => Kind::Fixed(size_of_fixed(name, object)?),
            _ => Kind::Record(self.fields(name, object, &space, depth)?),
        };
        Ok(Kind::Named(at))
    }

    fn symbols(&mut self, object: &Map<String, Value>) -> Result<Vec<String>, String> {
        let symbols = object.get("symbols").and_then(Value::as_array);
        let symbols = symbols.ok_or("an enum has no 'symbols'")?;
        self.parts += symbols.len();
        let long = |s: &Value| s.as_str().is_some_and(|s| s.len() > SYMBOL_BYTES_MAX);
        if self.parts > PARTS_MAX || symbols.iter().any(long) {
            return Err(format!(
                "an enum has too many symbols, or one of more than {SYMBOL_BYTES_MAX} bytes"
            ));
        }
        let text = |symbol: &Value| symbol.as_str().map(str::to_string);
        let all = symbols.iter().map(text).collect::<Option<Vec<_>>>();
        all.ok_or_else(|| "a symbol is no text".into())
    }

    fn fields(
        &mut self,
        name: &str,
        object: &Map<String, Value>,
        space: &str,
        depth: usize,
    ) -> Result<Vec<Field>, String> {
        let fields = object.get("fields").and_then(Value::as_array);
        let fields = fields.ok_or_else(|| format!("record '{name}' has no 'fields'"))?;
        let mut all: Vec<Field> = Vec::new();
        for field in fields {
            let own = field.get("name").and_then(Value::as_str);
            let own = own.ok_or_else(|| format!("a field of record '{name}' has no 'name'"))?;
            let kind = field.get("type");
            let kind = kind.ok_or_else(|| format!("field '{own}' has no 'type'"))?;
            // Logical types may stand beside the type of the field, which many writers accept.
            let logical = field.get("logicalType").and_then(Value::as_str);
            let read = self.kind(kind, space, depth + 1)?;
            let read = match kind {
                Value::String(plain) => with_meaning(read, plain, logical),
                _ => read,
            };
            if all.iter().any(|f| f.name == own) {
                return Err(format!("record '{name}' has two fields '{own}'"));
            }
            all.push(Field {
                name: own.into(),
                kind: read,
            });
        }
        if depth > 0 {
            // Of records within others nobody reads a field, and these take no bytes: many of them would
            // be passed over for each byte.
            let nothing = |kind: &Kind| match kind {
                Kind::Null | Kind::Fixed(0) => true,
                Kind::Named(at) => self.named[*at] == Kind::Fixed(0),
                _ => false,
            };
            all.retain(|f| !nothing(&f.kind));
        }
        Ok(all)
    }
}

fn full_name(name: &str, space: &str) -> String {
    match name.contains('.') || space.is_empty() {
        true => name.into(),
        false => format!("{space}.{name}"),
    }
}

fn size_of_fixed(name: &str, object: &Map<String, Value>) -> Result<usize, String> {
    let size = object.get("size").and_then(Value::as_u64);
    size.and_then(|s| usize::try_from(s).ok())
        .ok_or_else(|| format!("fixed '{name}' has no 'size'"))
}

/// A logical type that is not known, or does not go with the type, means nothing: so the specification says.
fn with_meaning(kind: Kind, name: &str, logical: Option<&str>) -> Kind {
    match (name, logical) {
        ("int", Some("date")) => Kind::Long(Long::Date),
        ("long", Some("timestamp-millis" | "local-timestamp-millis")) => Kind::Long(Long::Millis),
        ("long", Some("timestamp-micros" | "local-timestamp-micros")) => Kind::Long(Long::Micros),
        ("long", Some("timestamp-nanos" | "local-timestamp-nanos")) => Kind::Long(Long::Nanos),
        ("int", Some("time-millis")) | ("long", Some("time-micros")) => Kind::Long(Long::Time),
        _ => kind,
    }
}
