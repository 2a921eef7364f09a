//! The registry: objectives register themselves under a name, and recipes find them by it.
//!
//! Registration happens before `main` (crate `inventory`). The linker drops a crate of objectives unless the program
//! mentions it: `use my_objectives as _;`.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{Objective, ObjectiveError, error::nearest_names};

/// A registered objective; created by [`register_objective!`](crate::register_objective).
#[derive(Debug)]
pub struct ObjectivePlugin {
    /// Its name in recipes.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The loss of a prompt.
    pub formula: &'static str,
    /// The paper it comes from.
    pub paper: &'static str,
    /// Source file and line of the registration.
    pub location: &'static str,
    defaults: fn() -> Value,
    build: Constructor,
}

/// Builds an objective from a recipe's parameters; the name is for errors.
type Constructor = fn(&'static str, &Map<String, Value>) -> Result<Box<dyn Objective>, ObjectiveError>;

inventory::collect!(ObjectivePlugin);

impl ObjectivePlugin {
    /// Describes the objective `T`; use [`register_objective!`](crate::register_objective) instead.
    pub const fn new<T>(
        name: &'static str,
        summary: &'static str,
        formula: &'static str,
        paper: &'static str,
        location: &'static str,
    ) -> Self
    where
        T: Objective + Default + Serialize + DeserializeOwned + 'static,
    {
        Self { name, summary, formula, paper, location, defaults: defaults_of::<T>, build: build_as::<T> }
    }

    /// The parameters and their defaults, as a JSON object.
    pub fn defaults(&self) -> Value {
        (self.defaults)()
    }

    /// Builds the objective from a recipe's parameters; missing ones take their defaults.
    ///
    /// # Errors
    /// A parameter is unknown, out of range or of the wrong type.
    pub fn build(&self, params: &Map<String, Value>) -> Result<Box<dyn Objective>, ObjectiveError> {
        (self.build)(self.name, params)
    }
}

/// All registered objectives, sorted by name.
pub fn all() -> Vec<&'static ObjectivePlugin> {
    let mut plugins: Vec<&'static ObjectivePlugin> = inventory::iter::<ObjectivePlugin>.into_iter().collect();
    plugins.sort_by_key(|plugin| (plugin.name, plugin.location));
    plugins
}

/// Finds an objective by its exact name.
///
/// # Errors
/// No objective has this name (the error suggests the nearest), or two share a name.
pub fn find(name: &str) -> Result<&'static ObjectivePlugin, ObjectiveError> {
    check()?;
    let plugins = all();
    plugins.iter().find(|plugin| plugin.name == name).copied().ok_or_else(|| ObjectiveError::UnknownObjective {
        name: name.to_owned(),
        nearest: nearest_names(name, plugins.iter().map(|plugin| plugin.name)),
    })
}

/// Finds an objective and builds it from a recipe's parameters.
///
/// # Errors
/// As [`find`] and [`ObjectivePlugin::build`].
pub fn build(name: &str, params: &Map<String, Value>) -> Result<Box<dyn Objective>, ObjectiveError> {
    find(name)?.build(params)
}

/// Checks that no two objectives share a name; call it when a program starts.
///
/// # Errors
/// Two objectives share a name; the error says where both are registered.
pub fn check() -> Result<(), ObjectiveError> {
    check_names(&all())
}

fn check_names(sorted: &[&ObjectivePlugin]) -> Result<(), ObjectiveError> {
    match sorted.windows(2).find(|pair| pair[0].name == pair[1].name) {
        None => Ok(()),
        Some(pair) => Err(ObjectiveError::DuplicateObjective {
            name: pair[0].name.to_owned(),
            first: pair[0].location.to_owned(),
            second: pair[1].location.to_owned(),
        }),
    }
}

fn defaults_of<T: Default + Serialize>() -> Value {
    // Defaults that serde cannot serialize are a bug in the objective.
    serde_json::to_value(T::default())
        .unwrap_or_else(|error| panic!("cannot serialize an objective's defaults: {error}"))
}

fn build_as<T>(name: &'static str, params: &Map<String, Value>) -> Result<Box<dyn Objective>, ObjectiveError>
where
    T: Objective + Default + Serialize + DeserializeOwned + 'static,
{
    let defaults = match defaults_of::<T>() {
        Value::Object(map) => map,
        _ => Map::new(), // unit structs have no parameters
    };
    let mut merged = defaults.clone();
    for (key, value) in params {
        if !defaults.contains_key(key) {
            return Err(unknown_parameter(name, key, &defaults));
        }
        merged.insert(key.clone(), value.clone());
    }
    let complete = if defaults.is_empty() { serde_json::to_value(T::default()) } else { Ok(Value::Object(merged)) };
    match complete.and_then(serde_json::from_value::<T>) {
        Ok(objective) => Ok(Box::new(objective)),
        Err(error) => Err(invalid_parameter::<T>(name, params, &defaults, &error.to_string())),
    }
}

fn unknown_parameter(name: &str, key: &str, defaults: &Map<String, Value>) -> ObjectiveError {
    let known: Vec<String> = defaults.keys().cloned().collect();
    let nearest = nearest_names(key, known.iter().map(String::as_str));
    ObjectiveError::UnknownParameter { objective: name.to_owned(), key: key.to_owned(), nearest, known }
}

/// Finds the parameter at fault: the one that fails with all others at their defaults.
fn invalid_parameter<T: DeserializeOwned>(
    name: &str,
    params: &Map<String, Value>,
    defaults: &Map<String, Value>,
    reason: &str,
) -> ObjectiveError {
    let at_fault = params.iter().find_map(|(key, value)| {
        let mut alone = defaults.clone();
        alone.insert(key.clone(), value.clone());
        serde_json::from_value::<T>(Value::Object(alone)).err().map(|error| (key.clone(), value, error.to_string()))
    });
    let (key, value, reason) = match at_fault {
        Some((key, value, reason)) => (key, value.to_string(), reason),
        None => (
            params.keys().cloned().collect::<Vec<_>>().join(", "),
            Value::Object(params.clone()).to_string(),
            reason.to_owned(),
        ),
    };
    ObjectiveError::InvalidParameter { objective: name.to_owned(), key, value, reason }
}

/// Registers an objective under a name.
///
/// The type must implement [`Objective`](crate::Objective), `Default` (the parameters' defaults) and serde's `Serialize`
/// and `Deserialize`; its fields are the parameters recipes may set. The types of [`parameters`](crate::parameters)
/// reject values out of range.
///
/// ```
/// use collimate_objective::{Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective, registry, serde};
///
/// /// Lower the log-ratio of every response but the best.
/// #[derive(Debug, serde::Serialize, serde::Deserialize)]
/// #[serde(crate = "collimate_objective::serde")]
/// struct Example {
///     beta: Positive,
/// }
///
/// impl Default for Example {
///     fn default() -> Self {
///         Self { beta: Positive::constant(0.1) }
///     }
/// }
///
/// impl Objective for Example {
///     fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
///         let implicit_rewards = groups.log_ratios() * self.beta.get();
///         let loss = groups.mean(implicit_rewards.clone()) - groups.best(implicit_rewards.clone());
///         ObjectiveOutput { loss, implicit_rewards }
///     }
/// }
///
/// register_objective! {
///     Example,
///     name: "example",
///     summary: "The best response against the mean",
///     formula: "mean h − h_w",
///     paper: "none",
/// }
///
/// assert_eq!(registry::find("example")?.defaults()["beta"], 0.1);
/// # Ok::<(), collimate_objective::ObjectiveError>(())
/// ```
#[macro_export]
macro_rules! register_objective {
    ($type:ty, name: $name:expr, summary: $summary:expr, formula: $formula:expr, paper: $paper:expr $(,)?) => {
        $crate::inventory::submit! {
            $crate::registry::ObjectivePlugin::new::<$type>(
                $name, $summary, $formula, $paper, concat!(file!(), ":", line!()),
            )
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_name_is_refused_with_both_locations() {
        fn never(_: &'static str, _: &Map<String, Value>) -> Result<Box<dyn Objective>, ObjectiveError> {
            Err(ObjectiveError::EmptyBatch)
        }
        let plugin = |location| ObjectivePlugin {
            name: "twice",
            summary: "",
            formula: "",
            paper: "",
            location,
            defaults: || Value::Null,
            build: never,
        };
        let error = check_names(&[&plugin("a.rs:1"), &plugin("b.rs:2")]).expect_err("one name, two plugins");
        assert_eq!(
            error.to_string(),
            r#"two objectives are called "twice": one from a.rs:1, one from b.rs:2; rename one of them"#
        );
    }
}
