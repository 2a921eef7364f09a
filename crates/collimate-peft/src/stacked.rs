//! Adapters of experts whose weights transformers holds in one tensor a layer: PEFT's `target_parameters`.
//!
//! transformers 5 stacks the gates and ups of a layer's experts as `experts.gate_up_proj` and the downs as
//! `experts.down_proj`, and PEFT gives each such parameter one A of shape [E · r, in] and one B of shape [out, r · E]. Expert
//! e has the rows e · r to e · r + r of A, and of B every E-th column from e on. Gate and up thus share A; the rows of B are
//! those of gate and then those of up, or both in turn where the parameter's columns are. Here every expert has matrices of its
//! own, and only files have them together.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use collimate_hf::{FeedForward, Gated, HostTensor, LinearSpec, ModelConfig, Stacking, TensorSpec};

use crate::names::AdapterPart;

/// What PEFT puts after the name of a module that it has wrapped already.
const INNER: &str = ".base_layer";
const GATE_UP: &str = "gate_up_proj";
const DOWN: &str = "down_proj";
/// The parts of B that are there for gate and up: below each other, or their rows in turn.
const PARTS: [&str; 2] = ["gate", "up"];
const PARTS_IN_TURN: [&str; 2] = ["gate_in_turn", "up_in_turn"];

/// A parameter of transformers that holds a linear layer of every expert of a block, and where an adapter's matrices of one
/// expert are. Gate and up of an expert have one A.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stack {
    /// The parameter: `model.layers.0.mlp.experts.gate_up_proj`.
    pub(crate) parameter: String,
    /// The module of A: `model.layers.0.mlp.experts.gate_up_proj.3`.
    pub(crate) a_module: String,
    /// The module of B: the same, with `.gate` or `.up` where there are both.
    pub(crate) b_module: String,
}

impl Stack {
    /// The one that a module is a part of, if it is a linear layer of an expert.
    pub(crate) fn of(model: &ModelConfig, module: &str) -> Option<Self> {
        let experts = model.family.experts_name();
        let (root, rest) = module.split_once(&format!(".{experts}.")).filter(|_| model.experts.is_some())?;
        let (expert, name) = rest.split_once('.')?;
        let [gate, up, down] = model.family.expert_names();
        let parts = if is_in_turn(model) { PARTS_IN_TURN } else { PARTS };
        let (leaf, part) = match name {
            name if name == gate => (GATE_UP, Some(parts[0])),
            name if name == up => (GATE_UP, Some(parts[1])),
            name if name == down => (DOWN, None),
            _ => return None,
        };
        let parameter = format!("{root}.mlp.experts.{leaf}");
        let a_module = format!("{parameter}.{expert}");
        let b_module = part.map_or_else(|| a_module.clone(), |part| format!("{a_module}.{part}"));
        Some(Self { parameter, a_module, b_module })
    }
}

/// Whether the outputs of gate and up are in turn in the parameter that holds both.
fn is_in_turn(model: &ModelConfig) -> bool {
    model.family.stacking() == Stacking::Interleaved
}

/// Whether a module is an expert's part of a parameter.
pub(crate) fn is_stacked(module: &str) -> bool {
    StackedName::parse(module).is_some()
}

/// A matrix in a file, which holds those of all experts of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StackedTensor {
    /// Its name in the file and its shape there.
    pub(crate) spec: TensorSpec,
    part: AdapterPart,
    num_experts: usize,
    /// The names of each expert's own matrices: one of A, and of B one or two.
    names: Vec<Vec<String>>,
    /// Whether the rows of two of B are in turn, not below each other.
    is_in_turn: bool,
}

/// The matrices that a file has for the parameters that `is_targeted`, whose ranks are `rank_of` them.
pub(crate) fn tensors(
    model: &ModelConfig,
    is_targeted: impl Fn(&str) -> bool,
    rank_of: impl Fn(&str) -> usize,
) -> Vec<StackedTensor> {
    let mut tensors = Vec::new();
    for layer in 0..model.num_hidden_layers {
        let FeedForward::Experts { experts, .. } = model.block(layer).feed_forward else { continue };
        // In the order of the module's parameters, in which PEFT wraps them.
        let mut parameters: Vec<Parameter> = [GATE_UP, DOWN].map(|leaf| Parameter::new(model, leaf, &experts)).into();
        parameters.retain(|parameter| is_targeted(&parameter.name));
        while let Some(outer) = (!parameters.is_empty()).then(|| parameters.remove(0)) {
            let wrapper = INNER.repeat(parameters.len());
            let r = rank_of(&outer.name);
            tensors.extend(outer.tensors(&wrapper, r));
        }
    }
    tensors
}

/// A parameter, and what it is made of.
struct Parameter {
    name: String,
    /// Width of an expert's input.
    in_features: usize,
    /// Height of all parts of an expert together.
    out_features: usize,
    /// By expert, where the matrices of its parts are.
    experts: Vec<Vec<Stack>>,
    is_in_turn: bool,
}

impl Parameter {
    fn new(model: &ModelConfig, leaf: &str, experts: &[Gated]) -> Self {
        let is_part = |stack: &Stack| stack.parameter.ends_with(leaf);
        let of = |linear: &LinearSpec| Stack::of(model, &linear.module).filter(is_part);
        let first = experts.iter().take(1).flat_map(Gated::linears).filter(|linear| of(linear).is_some());
        let first: Vec<_> = first.collect();
        let experts: Vec<Vec<Stack>> = experts.iter().map(|expert| expert.linears().filter_map(of).collect()).collect();
        Self {
            name: experts.first().and_then(|parts| parts.first()).map_or_else(String::new, |s| s.parameter.clone()),
            in_features: first.first().map_or(0, |linear| linear.in_features),
            out_features: first.iter().map(|linear| linear.out_features).sum(),
            experts,
            is_in_turn: is_in_turn(model),
        }
    }

    /// A and B of all experts.
    fn tensors(&self, wrapper: &str, r: usize) -> [StackedTensor; 2] {
        let module = self.name.rsplit_once('.').map_or("", |(module, _)| module);
        let num_experts = self.experts.len();
        let tensor = |part: AdapterPart, shape: [usize; 2], name: fn(&Stack) -> String| {
            let names = |parts: &Vec<Stack>| {
                let mut names: Vec<String> = parts.iter().map(name).collect();
                names.dedup();
                names
            };
            let names = self.experts.iter().map(names).collect();
            let spec = TensorSpec::new(part.name(&format!("{module}{wrapper}")), &shape);
            StackedTensor { spec, part, num_experts, names, is_in_turn: self.is_in_turn }
        };
        let a = |stack: &Stack| AdapterPart::A.name(&stack.a_module);
        let b = |stack: &Stack| AdapterPart::B.name(&stack.b_module);
        [
            tensor(AdapterPart::A, [num_experts * r, self.in_features], a),
            tensor(AdapterPart::B, [self.out_features, r * num_experts], b),
        ]
    }
}

impl StackedTensor {
    /// The names of the experts' matrices.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().map(String::as_str)
    }

    /// The experts' matrices, given all of them as a file has them.
    pub(crate) fn split(&self, stacked: &HostTensor) -> Vec<(String, HostTensor)> {
        let [rows, columns] = [stacked.shape[0], stacked.shape[1]];
        let experts = self.names.iter().enumerate();
        if self.part == AdapterPart::A {
            let r = rows / self.num_experts;
            let expert = |(expert, names): (usize, &Vec<String>)| {
                let data = stacked.data[expert * r * columns..(expert + 1) * r * columns].to_vec();
                names.iter().map(|name| (name.clone(), HostTensor::new([r, columns], data.clone()))).collect::<Vec<_>>()
            };
            return experts.flat_map(expert).collect();
        }
        let r = columns / self.num_experts;
        let expert = |(expert, names): (usize, &Vec<String>)| {
            let (count, height) = (names.len(), rows / names.len());
            let part = |(index, name): (usize, &String)| {
                let place = |row| RowPlace { part: index, row }.in_file(self.is_in_turn, [count, height]) * columns;
                let value = |(row, i): (usize, usize)| stacked.data[place(row) + i * self.num_experts + expert];
                let data = (0..height).flat_map(|row| (0..r).map(move |i| (row, i))).map(value).collect();
                (name.clone(), HostTensor::new([height, r], data))
            };
            names.iter().enumerate().map(part).collect::<Vec<_>>()
        };
        experts.flat_map(expert).collect()
    }
}

/// A row of one of the parts of B.
struct RowPlace {
    part: usize,
    row: usize,
}

impl RowPlace {
    /// Its row among those of all parts, of which there are `count` with `height` rows each.
    fn in_file(&self, is_in_turn: bool, [count, height]: [usize; 2]) -> usize {
        if is_in_turn { self.row * count + self.part } else { self.part * height + self.row }
    }
}

/// Takes the experts' matrices from an adapter's tensors and puts them together as a file has them.
///
/// The names say what belongs together: `experts.gate_up_proj.0.lora_A.weight` and `experts.gate_up_proj.0.up.lora_B.weight`
/// (see [`Stack`]).
pub(crate) fn stack(tensors: BTreeMap<String, HostTensor>) -> BTreeMap<String, HostTensor> {
    let mut stacked: BTreeMap<(String, String), Experts> = BTreeMap::new();
    let mut others = BTreeMap::new();
    for (name, tensor) in tensors {
        match AdapterPart::parse(&name).and_then(|(module, part)| Some((StackedName::parse(module)?, part))) {
            Some((place, AdapterPart::A)) => {
                let StackedName { module, leaf, expert, .. } = place;
                stacked.entry((module.to_owned(), leaf.to_owned())).or_default().a.insert(expert, tensor);
            }
            Some((place, AdapterPart::B)) => {
                let StackedName { module, leaf, expert, part, is_in_turn } = place;
                let experts = stacked.entry((module.to_owned(), leaf.to_owned())).or_default();
                experts.b.insert([part, expert], tensor);
                experts.is_in_turn |= is_in_turn;
            }
            _ => {
                others.insert(name, tensor);
            }
        }
    }
    // The parameter that PEFT wraps first, gates and ups, is inside the other one.
    let modules: BTreeSet<(String, String)> = stacked.keys().cloned().collect();
    for ((module, leaf), experts) in stacked {
        let is_inner = leaf == GATE_UP && modules.contains(&(module.clone(), DOWN.to_owned()));
        let module = format!("{module}{}", if is_inner { INNER } else { "" });
        others.insert(AdapterPart::A.name(&module), experts.stacked_a());
        others.insert(AdapterPart::B.name(&module), experts.stacked_b());
    }
    others
}

/// The place of an expert's matrix in a stacked one.
struct StackedName<'a> {
    module: &'a str,
    leaf: &'a str,
    expert: usize,
    /// Of B: 0 for the only part or for gates, 1 for ups.
    part: usize,
    is_in_turn: bool,
}

impl<'a> StackedName<'a> {
    fn parse(module: &'a str) -> Option<Self> {
        let (before, last) = module.rsplit_once('.')?;
        let all = [(PARTS, false), (PARTS_IN_TURN, true)].into_iter();
        let mut parts =
            all.flat_map(|(parts, is_in_turn)| parts.into_iter().enumerate().map(move |part| (part, is_in_turn)));
        let (rest, part, is_in_turn) = match parts.find(|((_, name), _)| *name == last) {
            Some(((part, _), is_in_turn)) => (before, part, is_in_turn),
            None => (module, 0, false),
        };
        let (parameter, expert) = rest.rsplit_once('.')?;
        let (module, leaf) = parameter.rsplit_once('.')?;
        let is_stack = matches!(leaf, GATE_UP | DOWN);
        Some(Self { module, leaf, expert: expert.parse().ok().filter(|_| is_stack)?, part, is_in_turn })
    }
}

/// The matrices of a parameter's experts.
#[derive(Default)]
struct Experts {
    a: BTreeMap<usize, HostTensor>,
    /// By part and expert.
    b: BTreeMap<[usize; 2], HostTensor>,
    is_in_turn: bool,
}

impl Experts {
    fn stacked_a(&self) -> HostTensor {
        let width = self.a.values().next().map_or(0, |tensor| tensor.shape[1]);
        let rows = self.a.values().map(|tensor| tensor.shape[0]).sum::<usize>();
        HostTensor::new([rows, width], self.a.values().flat_map(|tensor| tensor.data.iter().copied()).collect())
    }

    fn stacked_b(&self) -> HostTensor {
        let num_experts = self.a.len();
        let r = self.b.values().next().map_or(0, |tensor| tensor.shape[1]);
        let height = self.b.values().next().map_or(0, |tensor| tensor.shape[0]);
        let count = self.b.keys().map(|[part, _]| part + 1).max().unwrap_or(1);
        let (rows, columns) = (count * height, r * num_experts);
        let mut data = vec![0.0; rows * columns];
        for ([part, expert], tensor) in &self.b {
            for (row, values) in tensor.data.chunks(r.max(1)).enumerate() {
                let place = RowPlace { part: *part, row }.in_file(self.is_in_turn, [count, height]);
                let start = place * columns + expert;
                values.iter().enumerate().for_each(|(i, value)| data[start + i * num_experts] = *value);
            }
        }
        HostTensor::new([rows, columns], data)
    }
}
