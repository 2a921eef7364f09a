//! Vectorised exponentials, and the choice of instructions at run time.
