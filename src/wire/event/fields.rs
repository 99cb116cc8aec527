//! The fields of an entry, and decoding them as a value.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::{Serialize, Serializer, forward_to_deserialize_any};

use crate::error::{Error, Result};

/// A field's name and value.
type Field = (Box<[u8]>, Box<[u8]>);

/// The fields of an event, in the order they were written.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct EventFields(Vec<Field>);

impl EventFields {
    pub(crate) fn new(fields: Vec<Field>) -> Self {
        Self(fields)
    }

    /// Returns the text of a field; the last one counts where a name is there twice. `None` when
    /// there is no such field or it is not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// Returns a field as it is stored; the last one counts where a name is there twice.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.find(name).map(|(_, value)| value)
    }

    /// Returns a field, and where it is.
    pub(crate) fn find(&self, name: &str) -> Option<(usize, &[u8])> {
        let at = self
            .0
            .iter()
            .rposition(|(field, _)| **field == *name.as_bytes())?;
        let (_, value) = self.0.get(at)?;
        Some((at, &**value))
    }

    /// Returns the fields that are not in one of these places.
    pub(crate) fn without(mut self, places: &[usize]) -> Self {
        let mut at = 0..;
        self.0
            .retain(|_| at.next().is_none_or(|at| !places.contains(&at)));
        self
    }

    /// Returns names and values as they are stored.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns how many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decodes the fields as one value, such as a struct. Where `T` wants text it gets a field
    /// as it is; where it wants a number, a bool, a list or an object, the field is read as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the fields do not fit `T`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn show(fields: &oxbull::EventFields) -> oxbull::Result<()> {
    /// #[derive(serde::Deserialize)]
    /// struct Deployed {
    ///     version: String,
    ///     build: u32,
    /// }
    ///
    /// let deployed: Deployed = fields.decode()?;
    /// println!("{} ({})", deployed.version, deployed.build);
    /// # Ok(())
    /// # }
    /// ```
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        let fields = self.0.iter().map(|(name, value)| {
            let value = Text(String::from_utf8_lossy(value));
            (String::from_utf8_lossy(name), value)
        });
        T::deserialize(MapDeserializer::new(fields)).map_err(|source: serde_json::Error| {
            Error::Decode {
                what: "an event's fields".to_owned(),
                source: source.into(),
            }
        })
    }

    /// How many bytes the fields have.
    pub(crate) fn size(&self) -> usize {
        self.0
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }
}

/// A map from names to text; bytes that are not UTF-8 are replaced.
impl Serialize for EventFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(name, value)| {
            (
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value),
            )
        }))
    }
}

impl fmt::Debug for EventFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.iter().map(|(name, value)| {
            (
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value),
            )
        });
        f.debug_map().entries(texts).finish()
    }
}

/// One field's text, read as what its receiver wants.
struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    fn json<T>(
        &self,
        read: impl FnOnce(
            &mut serde_json::Deserializer<serde_json::de::IoRead<&[u8]>>,
        ) -> serde_json::Result<T>,
    ) -> serde_json::Result<T> {
        let mut json = serde_json::Deserializer::from_reader(self.0.as_bytes());
        let value = read(&mut json)?;
        json.end()?;
        Ok(value)
    }
}

impl IntoDeserializer<'_, serde_json::Error> for Text<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! as_json {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
            self.json(|json| json.$method(visitor))
        })*
    };
}

impl<'de> Deserializer<'de> for Text<'_> {
    type Error = serde_json::Error;

    as_json! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_u128 deserialize_f32 deserialize_f64 deserialize_seq deserialize_map
        deserialize_unit
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
        visitor.visit_str(&self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> serde_json::Result<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> serde_json::Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> serde_json::Result<V::Value> {
        self.json(|json| json.deserialize_struct(name, fields, visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> serde_json::Result<V::Value> {
        self.json(|json| json.deserialize_tuple(len, visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> serde_json::Result<V::Value> {
        self.json(|json| json.deserialize_tuple_struct(name, len, visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> serde_json::Result<V::Value> {
        if variants.contains(&&*self.0) {
            let variant: de::value::StrDeserializer<'_, serde_json::Error> =
                (*self.0).into_deserializer();
            return visitor.visit_enum(variant);
        }
        self.json(|json| json.deserialize_enum(name, variants, visitor))
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> EventFields {
        EventFields(
            pairs
                .iter()
                .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()))
                .collect(),
        )
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
        Rgb(u8, u8, u8),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Custom {
        text: String,
        digits: String,
        count: u32,
        rate: f64,
        flag: bool,
        list: Vec<u8>,
        nested: std::collections::BTreeMap<String, i64>,
        colour: Colour,
        other: Colour,
        there: Option<i8>,
        absent: Option<i8>,
    }

    /// Node writes every field as text; the reader decides about its type.
    #[test]
    fn fields_decode_as_what_their_reader_wants() {
        let custom: Custom = fields(&[
            ("text", "plain \"text\""),
            ("digits", "007"),
            ("count", "7"),
            ("rate", "0.5"),
            ("flag", "true"),
            ("list", "[1,2]"),
            ("nested", r#"{"a":-1}"#),
            ("colour", "red"),
            ("other", r#"{"rgb":[1,2,3]}"#),
            ("there", "-3"),
            ("unknown", "ignored"),
        ])
        .decode()
        .unwrap();
        let expected = Custom {
            text: "plain \"text\"".to_owned(),
            digits: "007".to_owned(),
            count: 7,
            rate: 0.5,
            flag: true,
            list: vec![1, 2],
            nested: [("a".to_owned(), -1)].into(),
            colour: Colour::Red,
            other: Colour::Rgb(1, 2, 3),
            there: Some(-3),
            absent: None,
        };
        assert_eq!(custom, expected);
    }

    #[test]
    fn fields_of_another_kind_are_an_error() {
        #[derive(Debug, Deserialize)]
        struct Count {
            #[expect(dead_code, reason = "it never decodes")]
            n: u32,
        }
        for text in ["x", "", "1 2", "-1"] {
            let error = fields(&[("n", text)]).decode::<Count>().unwrap_err();
            assert!(matches!(error, Error::Decode { .. }), "{error:?}");
        }
        assert!(fields(&[]).decode::<Count>().is_err());
    }
}
