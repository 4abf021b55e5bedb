//! A part of a configuration that is read field by field.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, json};

/// An object inside of a configuration, or the place where one is missing.
///
/// Each plugin uses a few fields of `runtimeConfig`, `args` or `ipam`, and a field that is wrong must not stop a plugin
/// that never looks at it. So a section is not parsed as a whole; [`get`](Self::get) parses the field it is asked for.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    value: Option<&'a Value>,
    path: String,
}

impl<'a> Section<'a> {
    pub(super) fn new(value: Option<&'a Value>, path: String) -> Self {
        Self { value, path }
    }

    /// Where the section is in its document, for example `args.cni`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the section is missing, `null` or `{}`.
    pub fn is_empty(&self) -> bool {
        match self.value {
            None | Some(Value::Null) => true,
            Some(Value::Object(object)) => object.is_empty(),
            Some(_) => false,
        }
    }

    /// A field's value; `None` if the field, or the section, is missing or `null`.
    ///
    /// # Errors
    /// [`ErrorCode::INVALID_CONFIG`](crate::ErrorCode::INVALID_CONFIG) with the path of what is wrong.
    pub fn get<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>, Error> {
        self.field(field)?.map(|value| decode(value, &self.join(field))).transpose()
    }

    /// The section inside of this one under a field's name.
    ///
    /// # Errors
    /// As [`get`](Self::get), if this section is not an object.
    pub fn section(&self, field: &str) -> Result<Self, Error> {
        Ok(Self { value: self.field(field)?, path: self.join(field) })
    }

    /// The section as a whole, as a plugin's own type; `None` if it is missing.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn parse<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        self.value.map(|value| decode(value, &self.path)).transpose()
    }

    fn field(&self, field: &str) -> Result<Option<&'a Value>, Error> {
        match self.value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(json::field(object, field)),
            Some(_) => Err(Error::config(format!("{}: not an object", self.path))),
        }
    }

    fn join(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }
}

fn decode<T: DeserializeOwned>(value: &Value, path: &str) -> Result<T, Error> {
    json::from_value(value, path).map_err(|error| Error::config(error.to_string()))
}
