//! What both versions need of `dhcproto`, which reads and writes their messages.

/// What an option holds, if it is there: for each version, `OptionCode` and `DhcpOption` have the same names.
macro_rules! value {
    ($options:expr, $name:ident) => {
        match $options.get(OptionCode::$name) {
            Some(DhcpOption::$name(value)) => Some(value),
            _ => None,
        }
    };
}

pub(crate) use value;

/// The messages of a recorded exchange: hexadecimal, each below its name.
#[cfg(test)]
pub(crate) fn recorded(text: &str) -> Vec<Vec<u8>> {
    let messages = text.split("\n# ").skip(1).filter_map(|message| message.split_once('\n'));
    let bytes = |digits: &str| -> Vec<u8> {
        let digits: Vec<char> = digits.split_whitespace().flat_map(str::chars).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    };
    messages.map(|(_, digits)| bytes(digits)).filter(|message| !message.is_empty()).collect()
}
