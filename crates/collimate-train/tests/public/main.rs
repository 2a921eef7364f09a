//! What other crates use of this one.

mod load_recipe;
