//! The budget of one rendering: bytes of values that it creates or reads, and bytes of text that it prints.
//!
//! The engine limits instructions (`FUEL`), but a single instruction can double a string, repeat a list or compare two
//! large values. So every operation that can grow or walk a value pays for it here. Nesting is limited as well, since
//! dropping, comparing and printing a value takes one stack frame per level.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use crate::with_memory;

/// Bytes that any rendering may process, however short the conversation.
pub(crate) const WORK_BYTES: usize = 64 << 20;
/// Further bytes of work for each byte of the conversation: templates read a message a dozen times.
pub(crate) const WORK_PER_BYTE: usize = 256;
/// Bytes that a rendering may process, however long the conversation: it may keep all of them at once. This limit and the
/// next grow with memory ([`crate::with_memory`]).
pub(crate) const MOST_WORK_BYTES: usize = 512 << 20;
/// Bytes of a conversation with its tools, as [`crate::inputs`] counts them.
pub(crate) const MAX_CONVERSATION_BYTES: usize = 16 << 20;
/// Bytes of text that a rendering may print, including captured blocks, however short the conversation: a prompt and a
/// response have less.
const OUTPUT_BYTES: usize = 16 << 20;
/// Bytes of text that it may print for each byte of a long conversation.
const OUTPUT_PER_BYTE: usize = 4;
/// Levels of nested lists and maps. Messages of tool calls nest about ten deep.
pub(crate) const MAX_NESTING: usize = 64;
/// Cost of a list element on top of its text: about twice the size of the engine's value, to cover its time too.
pub(crate) const NODE_BYTES: usize = 64;
/// Cost of a message on top of its text: templates often build lists of messages one by one.
pub(crate) const MESSAGE_BYTES: usize = 1024;
/// Most bytes that one byte of text expands to when a list is printed: `\u{1f}`.
const ESCAPED_BYTES: usize = 6;
/// Cost of each piece of printed text on top of its bytes, to cover its time.
const PIECE_BYTES: usize = 8;

/// The variables that hold what a rendering may process and print; no template can name them.
pub(crate) const WORK_VARIABLE: &str = "\u{1}work";
pub(crate) const OUTPUT_VARIABLE: &str = "\u{1}output";
const TEMP: &str = "\u{1}budget";

/// What a rendering may still use.
#[derive(Debug)]
pub(crate) struct Budget {
    work: AtomicUsize,
    output: AtomicUsize,
    /// What `output` was.
    most_output: usize,
}

/// What a rendering of a conversation of so many bytes may process, where `memory` may be used.
pub(crate) fn work_bytes(conversation: usize, memory: u64) -> usize {
    let work = WORK_BYTES.saturating_add(conversation.saturating_mul(WORK_PER_BYTE));
    work.min(with_memory(MOST_WORK_BYTES, memory))
}

/// What it may print.
pub(crate) fn output_bytes(conversation: usize, memory: u64) -> usize {
    let most = with_memory(MAX_CONVERSATION_BYTES, memory);
    conversation.saturating_mul(OUTPUT_PER_BYTE).clamp(OUTPUT_BYTES, most.max(OUTPUT_BYTES))
}

impl Object for Budget {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

impl Budget {
    /// The budget of the rendering that `state` belongs to; macros share it.
    pub(crate) fn from_state(state: &State<'_, '_>) -> Arc<Self> {
        state.get_or_set_temp_object(TEMP, || {
            let given = |name, default| state.lookup(name).and_then(|value| value.as_usize()).unwrap_or(default);
            let (work, output) = (given(WORK_VARIABLE, WORK_BYTES), given(OUTPUT_VARIABLE, OUTPUT_BYTES));
            Self { work: AtomicUsize::new(work), output: AtomicUsize::new(output), most_output: output }
        })
    }

    /// Pays for work before it is done.
    pub(crate) fn charge(&self, bytes: usize) -> Result<(), Error> {
        take(&self.work, bytes).then_some(()).ok_or_else(exhausted)
    }

    /// Pays for a product of two sizes; an overflow exceeds the budget.
    pub(crate) fn charge_product(&self, bytes: usize, times: usize) -> Result<(), Error> {
        self.charge(bytes.saturating_mul(times))
    }

    /// Pays for printed text.
    pub(crate) fn print(&self, bytes: usize) -> Result<(), Error> {
        let problem = || invalid(format!("the text grows beyond {} bytes", self.most_output));
        take(&self.output, bytes).then_some(()).ok_or_else(problem)
    }

    /// Pays for walking a value, with the bytes of its strings if `texts`, and rejects one nested too deeply.
    pub(crate) fn walk(&self, value: &Value, texts: bool) -> Result<(), Error> {
        self.walk_at(value, texts, 0)
    }

    fn walk_at(&self, value: &Value, texts: bool, depth: usize) -> Result<(), Error> {
        let bytes = if texts { value.as_str().map_or(0, str::len) } else { 0 };
        self.charge(NODE_BYTES)?;
        self.charge_product(bytes, if depth == 0 { 1 } else { ESCAPED_BYTES })?;
        let Some(object) = value.as_object().filter(|_| is_container(value)) else { return Ok(()) };
        if depth == MAX_NESTING {
            return Err(invalid(format!("a value nests deeper than {MAX_NESTING} levels")));
        }
        if value.kind() == ValueKind::Map {
            for (key, item) in object.try_iter_pairs().into_iter().flatten() {
                self.walk_at(&key, texts, depth + 1)?;
                self.walk_at(&item, texts, depth + 1)?;
            }
            return Ok(());
        }
        object.try_iter().into_iter().flatten().try_for_each(|item| self.walk_at(&item, texts, depth + 1))
    }

    /// Pays for the result of an operation, and stores a lazy list in memory.
    ///
    /// The engine nests lazy lists in each other, and would walk and drop a long chain of them by recursion.
    pub(crate) fn settle(&self, value: Value) -> Result<Value, Error> {
        match value.kind() {
            ValueKind::String => self.charge(value.as_str().map_or(0, str::len))?,
            ValueKind::Iterable => {
                let mut items = Vec::new();
                for item in value.try_iter()? {
                    self.charge(NODE_BYTES)?;
                    items.push(self.settle(item)?);
                }
                let list = Value::from(items);
                self.walk(&list, false)?;
                return Ok(list);
            }
            ValueKind::Seq | ValueKind::Map => self.walk(&value, false)?,
            _ => {}
        }
        Ok(value)
    }

    /// Pays for the elements of a value, or the bytes of a string, without looking into the elements.
    pub(crate) fn top(&self, value: &Value) -> Result<(), Error> {
        let count = value.as_str().map(str::len).or_else(|| value.len()).unwrap_or(0);
        self.charge_product(NODE_BYTES, count.saturating_add(1))
    }
}

/// A string that pays for what is written to it.
pub(crate) struct PaidText<'a> {
    pub(crate) text: String,
    pub(crate) budget: &'a Budget,
}

impl fmt::Write for PaidText<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.budget.charge(part.len() + PIECE_BYTES).map_err(|_| fmt::Error)?;
        self.text.push_str(part);
        Ok(())
    }
}

/// Whether a value is a list or a map.
pub(crate) fn is_container(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)
}

/// An error for an operation that is not allowed.
pub(crate) fn invalid(problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

pub(crate) fn exhausted() -> Error {
    invalid(format!(
        "it works on more data than {WORK_BYTES} bytes and {WORK_PER_BYTE} times the conversation, or than memory \
         allows: it grows without end"
    ))
}

fn take(left: &AtomicUsize, amount: usize) -> bool {
    // A plain load is enough: a rendering stays on one thread.
    let rest = left.load(Ordering::Relaxed).checked_sub(amount);
    rest.map(|rest| left.store(rest, Ordering::Relaxed)).is_some()
}
