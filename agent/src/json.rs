//! JSON that people write: what is wrong with it is told with its place.

use serde::de::DeserializeOwned;

/// What a text says, all of it.
///
/// # Errors
/// `gossip.port: invalid value: integer `70000`, expected u16 at line 3 column 17`
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = error.path().to_string();
        match place.as_str() {
            // Of the text as a whole, or of one that ends too soon.
            "." | "?" => error.inner().to_string(),
            _ => format!("{place}: {}", error.inner()),
        }
    })?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}
