#![no_main]

use collimate_hostile::{Target, fuzz};

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz(Target::Image, input));
