//! The shapes that a value may have in the file. Each reports a wrong value in an operator's words.

use std::{fmt, marker::PhantomData, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

/// A type that the file writes as a string.
pub(super) trait FromText: Sized {
    /// What the file should contain here, with an example.
    const EXPECTED: &'static str;
    /// Whether a bare number is wrong only because its unit is missing.
    const HAS_UNIT: bool = false;

    /// The error states the whole problem in words.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// A `T` that the file writes as a string.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Written<T>(pub(super) T);

/// A table, and only a table: a struct that derives `Deserialize` would accept a list too.
#[derive(Default)]
pub(super) struct Table<T> {
    /// The span of its header or braces; empty at the start of the text if the file omits it.
    pub(super) at: Range<usize>,
    pub(super) inner: T,
}

/// A value with its place in the file. Wraps `toml::Spanned` so that this crate can describe it.
pub(super) struct Spanned<T>(toml::Spanned<T>);

impl<T> Spanned<T> {
    pub(super) fn new(at: Range<usize>, value: T) -> Spanned<T> {
        Spanned(toml::Spanned::new(at, value))
    }

    pub(super) fn span(&self) -> Range<usize> {
        self.0.span()
    }

    pub(super) fn get_ref(&self) -> &T {
        self.0.get_ref()
    }

    pub(super) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        toml::Spanned::deserialize(deserializer).map(Spanned)
    }
}

/// One value, or a list of them.
pub(super) struct OneOrMany<T>(pub(super) Vec<Spanned<T>>);

/// A whole number within bounds.
#[derive(Clone, Copy)]
pub(super) struct Whole<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        OneOrMany(Vec::new())
    }
}

impl<'de, T: FromText> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor(PhantomData))
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromText> TextVisitor<T> {
    fn refuse_number<E: serde::de::Error>(self, number: Unexpected<'_>) -> Result<Written<T>, E> {
        if T::HAS_UNIT {
            return Err(E::custom(format_args!("a bare number has no unit; write {}", T::EXPECTED)));
        }
        Err(E::invalid_type(number, &self))
    }
}

impl<T: FromText> Visitor<'_> for TextVisitor<T> {
    type Value = Written<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        T::from_text(text).map(Written).map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
        self.refuse_number(Unexpected::Signed(number))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Self::Value, E> {
        self.refuse_number(Unexpected::Float(number))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Spanned::<Braced<T>>::deserialize(deserializer)?;
        Ok(Table { at: table.span(), inner: table.into_inner().0 })
    }
}

struct Braced<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Braced<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BracedVisitor(PhantomData))
    }
}

struct BracedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BracedVisitor<T> {
    type Value = Braced<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Braced)
    }
}

impl<'de, T: FromText> Deserialize<'de> for OneOrMany<Written<T>> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Spanned::<Several<T>>::deserialize(deserializer)?;
        let at = values.span();
        Ok(match values.into_inner() {
            Several::One(value) => OneOrMany(vec![Spanned::new(at, value)]),
            Several::Many(values) => OneOrMany(values),
        })
    }
}

enum Several<T> {
    One(Written<T>),
    Many(Vec<Spanned<Written<T>>>),
}

impl<'de, T: FromText> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeveralVisitor(PhantomData))
    }
}

struct SeveralVisitor<T>(PhantomData<T>);

impl<'de, T: FromText> Visitor<'de> for SeveralVisitor<T> {
    type Value = Several<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a list of such", T::EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        TextVisitor(PhantomData).visit_str(text).map(Several::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Several::Many(values))
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = deserializer.deserialize_any(WholeVisitor::<MIN, MAX>)?;
        match u32::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Whole(number)),
            _ => Err(D::Error::custom(format_args!(
                "{number} is out of bounds; write a whole number from {MIN} to {MAX}"
            ))),
        }
    }
}

struct WholeVisitor<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Visitor<'_> for WholeVisitor<MIN, MAX> {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(number)
    }
}
