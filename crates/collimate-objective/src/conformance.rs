//! Tests that every objective must pass, in one line of a plugin.
