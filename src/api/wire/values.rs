//! Types of single fields in request and response bodies: instants, payloads whose bytes are kept, and fields that
//! are always present but may be null.
//!
//! serde reads and writes them; poem-openapi only describes them in the API document.
//!
//! Must not check lengths or ranges: fields.rs does.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseFromParameter, ParseResult, ToJSON, Type};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::domain::timestamp::Timestamp;
use crate::error::Error;

/// The media type of all bodies.
pub(crate) const JSON: &str = "application/json";

/// Implements poem-openapi's traits for a serde type. Takes the type, its name, whether it is required, the code that
/// registers other schemas, and its own schema.
macro_rules! json_type {
    ($type:ty, $name:expr, $required:expr, |$registry:ident| $register:expr, $schema:expr) => {
        impl poem_openapi::types::Type for $type {
            const IS_REQUIRED: bool = $required;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                $schema
            }

            fn register($registry: &mut poem_openapi::registry::Registry) {
                $register
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(self.as_raw_value().into_iter())
            }
        }

        impl poem_openapi::types::ToJSON for $type {
            fn to_json(&self) -> Option<serde_json::Value> {
                serde_json::to_value(self).ok()
            }
        }

        impl poem_openapi::types::ParseFromJSON for $type {
            fn parse_from_json(value: Option<serde_json::Value>) -> poem_openapi::types::ParseResult<Self> {
                serde_json::from_value(value.unwrap_or_default()).map_err(poem_openapi::types::ParseError::custom)
            }
        }
    };
}
pub(crate) use json_type;

/// An instant, as RFC 3339 text with a time zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Instant(pub Timestamp);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Timestamp::parse_rfc3339(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

json_type!(
    Instant,
    "date-time",
    true,
    |_registry| {},
    MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "date-time")))
);

impl ParseFromParameter for Instant {
    /// Reads an instant from a query parameter. A `+` before the time zone that was not percent-encoded arrives as a
    /// space, and is read as `+`. A space right after the date stands for the `T`.
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        const DATE: usize = "2026-11-23".len();
        let value = match value.rfind(' ').filter(|space| *space > DATE) {
            Some(space) => format!("{}+{}", &value[..space], &value[space + 1..]),
            None => value.to_owned(),
        };
        Timestamp::parse_rfc3339(&value).map(Self).map_err(ParseError::custom)
    }
}

/// A JSON object kept as text, so that its bytes stay as they arrived.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct JsonText(pub Box<RawValue>);

impl JsonText {
    /// Wraps a stored text.
    ///
    /// # Errors
    /// `Internal` if the text is not JSON; all stored texts are.
    pub fn new(text: String) -> Result<Self, Error> {
        let raw = RawValue::from_string(text);
        raw.map(Self)
            .map_err(|err| Error::internal("a stored text is not JSON").because(err))
    }
}

json_type!(JsonText, "object", true, |_registry| {}, any_object());

fn any_object() -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        additional_properties: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::ANY)))),
        ..MetaSchema::new("object")
    }))
}

/// A field that is always present and may be null.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Nullable<T>(pub Option<T>);

impl<T: Type> Type for Nullable<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref().merge(MetaSchema {
            nullable: true,
            ..MetaSchema::ANY
        })
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(self.as_raw_value().into_iter())
    }
}

impl<T: ToJSON> ToJSON for Nullable<T> {
    fn to_json(&self) -> Option<serde_json::Value> {
        Some(self.0.as_ref().and_then(ToJSON::to_json).unwrap_or_default())
    }
}

impl<T: ParseFromJSON> ParseFromJSON for Nullable<T> {
    fn parse_from_json(value: Option<serde_json::Value>) -> ParseResult<Self> {
        Option::<T>::parse_from_json(value)
            .map(Self)
            .map_err(ParseError::propagate)
    }
}

/// Reads a field that is null or an object of the shape `T`. serde by itself would also accept a list of the field
/// values.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(ObjectOrNull(PhantomData))
}

struct ObjectOrNull<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectOrNull<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

/// Reads a field of a PATCH that may be absent but not null.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}
