//! No code: the tests of the command line are one executable, `tests/it`.
