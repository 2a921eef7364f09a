//! Where a run reports to besides its folder.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::foreign::Notes;
use crate::values::KeyType;

/// Experiment trackers that a run can send its metrics to.
const TRACKERS: [&str; 3] = ["wandb", "mlflow", "trackio"];

/// Experiment trackers that get each row of metrics, by the names of their Python packages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Trackers(Vec<String>);

impl Trackers {
    /// Their names.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl KeyType for Trackers {
    const EXPECTED: &'static str = "wandb, mlflow or trackio, or a list of these";
    fn from_yaml(value: &Value) -> Option<Self> {
        let names = texts(value)?;
        names.iter().all(|name| TRACKERS.contains(&name.as_str())).then_some(Self(names))
    }

    fn schema() -> Json {
        let name = json!({"enum": TRACKERS});
        json!({"anyOf": [name, {"type": "array", "items": name}]})
    }
}

/// What transformers' `report_to` names: trackers, and whether TensorBoard is among them; `None` if the value is neither text nor a
/// list of texts.
pub(crate) fn report_to(value: &Value, notes: &mut Notes) -> Option<(Trackers, bool)> {
    let (trackers, others): (Vec<_>, Vec<_>) =
        texts(value)?.into_iter().partition(|target| TRACKERS.contains(&target.as_str()));
    let tensorboard = others.iter().any(|target| matches!(target.as_str(), "tensorboard" | "all"));
    let unknown = |target: &&String| !matches!(target.as_str(), "tensorboard" | "all" | "none");
    let unknown: Vec<&str> = others.iter().filter(unknown).map(String::as_str).collect();
    if !unknown.is_empty() {
        notes.instead("report_to", &format!("nothing goes to {}; metrics.jsonl has every figure", unknown.join(", ")));
    }
    Some((Trackers(trackers), tensorboard))
}

/// A text or a list of texts; empty for nothing.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Sequence(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
        one => Some(vec![one.as_str()?.to_owned()]),
    }
}

/// What a recipe says about uploading the result, which the hub's client here cannot do.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    asked: bool,
    name: Option<String>,
}

impl Upload {
    /// Remembers a key about uploading; `None` if it is not one, an error if its value has the wrong type.
    pub(crate) fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), &'static str>> {
        match key {
            "push_to_hub" => Some(bool::from_yaml(value).map(|asked| self.asked = asked).ok_or(bool::EXPECTED)),
            "hub_model_id" => {
                self.name = value.as_str().map(str::to_owned);
                (!value.is_null() && self.name.is_none()).then_some(Err("text"))
            }
            _ => None,
        }
    }

    /// Why the recipe cannot be followed, if it asks for an upload.
    pub(crate) fn problem(&self, output_dir: &Path) -> Option<String> {
        let name = self.name.as_deref().unwrap_or("ORG/NAME");
        let folder = output_dir.display();
        self.asked.then(|| {
            format!(
                "nothing is uploaded from here: set it to false, and when the run is done type \
                 `hf upload {name} {folder} --exclude 'checkpoint-*'`"
            )
        })
    }
}
