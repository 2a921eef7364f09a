//! The files that a run reads its data from.

use std::fmt;
use std::path::PathBuf;

use collimate_data::DataPart;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::KeyType;

/// One file, or several with the share to take of each.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSources(Vec<DataPart>);

impl DataSources {
    /// Data from these files.
    pub fn new(parts: Vec<DataPart>) -> Self {
        Self(parts)
    }

    /// The files, in reading order.
    pub fn parts(&self) -> &[DataPart] {
        &self.0
    }

    /// Names of the files without their folders, for published documents.
    pub fn file_names(&self) -> String {
        let name = |part: &DataPart| {
            let name = part.path.file_name().unwrap_or_default().display();
            if part.weight == 1.0 { name.to_string() } else { format!("{name} ({})", part.weight) }
        };
        self.0.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// Describes what is wrong, if anything: a weight outside [0, 1], a file named twice, or no weight above zero.
    pub fn problem(&self) -> Option<String> {
        for (at, part) in self.0.iter().enumerate() {
            let path = part.path.display();
            if !(0.0..=1.0).contains(&part.weight) {
                let weight = part.weight;
                return Some(format!("the weight of {path} is the share of its groups, in [0, 1], and is {weight}"));
            }
            if self.0[..at].iter().any(|earlier| earlier.path == part.path) {
                return Some(format!("{path} is named twice"));
            }
        }
        self.0.iter().all(|part| part.weight == 0.0).then(|| "every weight is 0: there is nothing to read".to_owned())
    }
}

impl From<PathBuf> for DataSources {
    fn from(path: PathBuf) -> Self {
        Self(vec![DataPart::whole(path)])
    }
}

impl fmt::Display for DataSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.0.iter().map(|part| part.path.display().to_string()).collect();
        f.write_str(&paths.join(", "))
    }
}

impl Serialize for DataSources {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = self.0.iter().all(|part| part.weight == 1.0);
        match (whole, self.0.as_slice()) {
            (true, [one]) => one.path.serialize(serializer),
            (true, parts) => serializer.collect_seq(parts.iter().map(|part| &part.path)),
            (false, parts) => {
                let mut map = serializer.serialize_map(Some(parts.len()))?;
                for part in parts {
                    map.serialize_entry(&part.path, &part.weight)?;
                }
                map.end()
            }
        }
    }
}

impl KeyType for DataSources {
    const EXPECTED: &'static str = "a file, a list of files, or a table of files with the share taken of each";
    fn from_yaml(value: &Value) -> Option<Self> {
        let parts: Vec<DataPart> = match value {
            Value::Sequence(paths) => {
                paths.iter().map(|path| PathBuf::from_yaml(path).map(DataPart::whole)).collect::<Option<_>>()?
            }
            Value::Mapping(entries) => entries
                .iter()
                .map(|(path, weight)| {
                    Some(DataPart { path: PathBuf::from_yaml(path)?, weight: f64::from_yaml(weight)? })
                })
                .collect::<Option<_>>()?,
            path => vec![DataPart::whole(PathBuf::from_yaml(path)?)],
        };
        (!parts.is_empty()).then_some(Self(parts))
    }

    fn schema() -> Json {
        json!({"anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
            {"type": "object", "minProperties": 1, "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}},
        ]})
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a.jsonl", &[("a.jsonl", 1.0)])]
    #[case("[a.jsonl, b.jsonl]", &[("a.jsonl", 1.0), ("b.jsonl", 1.0)])]
    #[case("{a.jsonl: 0.5, b.jsonl: 1}", &[("a.jsonl", 0.5), ("b.jsonl", 1.0)])]
    fn files_are_named_in_three_ways_and_read_back(#[case] yaml: &str, #[case] expected: &[(&str, f64)]) {
        let read = |text: &str| DataSources::from_yaml(&serde_yaml_ng::from_str(text).expect("YAML")).expect("files");
        let sources = read(yaml);
        let found: Vec<_> = sources.parts().iter().map(|part| (part.path.clone(), part.weight)).collect();
        assert_eq!(found, expected.iter().map(|(path, weight)| (PathBuf::from(path), *weight)).collect::<Vec<_>>());
        assert_eq!(read(&serde_yaml_ng::to_string(&sources).expect("YAML")), sources);
    }

    #[rstest]
    #[case("[]")]
    #[case("{}")]
    #[case("''")]
    #[case("[1]")]
    #[case("{a.jsonl: much}")]
    #[case("3")]
    fn anything_else_is_refused(#[case] yaml: &str) {
        assert_eq!(DataSources::from_yaml(&serde_yaml_ng::from_str(yaml).expect("YAML")), None);
    }
}
