//! Just enough JSON to read one string out of cargo's output, so that xtask needs no parser to be built.

/// The value of the first string field called `key`.
pub(crate) fn string_field(json: &str, key: &str) -> Option<String> {
    let label = format!("\"{key}\":\"");
    let start = json.find(&label)? + label.len();
    let mut value = String::new();
    let mut chars = json[start..].chars();
    loop {
        match chars.next()? {
            '"' => return Some(value),
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                other => other,
            }),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let json = r#"{"name":"margin","target_directory":"C:\\a \"b\"\u0041"}"#;
        assert_eq!(string_field(json, "name").as_deref(), Some("margin"));
        assert_eq!(string_field(json, "target_directory").as_deref(), Some(r#"C:\a "b"A"#));
    }

    #[test]
    fn a_missing_field_or_end_is_nothing() {
        assert_eq!(string_field(r#"{"name":"x"}"#, "version"), None);
        assert_eq!(string_field(r#"{"name":"x"#, "name"), None);
    }
}
