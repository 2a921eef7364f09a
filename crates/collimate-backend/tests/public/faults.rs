//! Panics about memory as errors.

use std::panic::catch_unwind;

use collimate_backend::{BackendError, guarded, reports_panic};
use rstest::rstest;

#[rstest]
#[case::libtorch_cuda(
    "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to allocate 20.00 GiB.\\nmore\")"
)]
#[case::libtorch_cpu("Torch(\"[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory\")")]
#[case::cubecl(
    "called `Result::unwrap()` on an `Err` value: The server is in an invalid state\nCaused by:\n  [can't allocate buffer of size: 68719476736\n   0: backtrace"
)]
#[case::wgpu("wgpu error: Out of Memory\n")]
fn running_out_of_memory_is_an_error_with_a_remedy(#[case] text: &'static str) {
    let error = guarded(|| std::panic::resume_unwind(Box::new(text.to_owned()))).map(|()| 0).expect_err("an error");
    let shown = error.to_string();
    assert!(shown.contains("memory_budget"), "{shown}");
    assert!(!shown.contains("backtrace") && !shown.contains('\n'), "{shown}");
}

// A single test, because what a device's thread reports is global to the process.
#[test]
fn shortage_in_a_device_thread_is_reported_and_other_panics_propagate() {
    assert!(!reports_panic("wgpu error: Out of Memory"), "nobody would report it");
    let error = guarded(|| {
        let device = std::thread::spawn(|| reports_panic("wgpu error: Out of Memory"));
        assert!(device.join().expect("no panic"));
        assert!(reports_panic("the device's thread is gone"));
        std::panic::resume_unwind(Box::new("the device's thread is gone"))
    });
    let expected = BackendError::OutOfMemory { said: "wgpu error: Out of Memory".to_owned() };
    assert_eq!(error.map(|()| 0), Err(expected));

    assert_eq!(guarded(|| 3), Ok(3));
    let panic = catch_unwind(|| guarded(|| std::panic::resume_unwind(Box::new("index 3 of 2"))).map(|()| 0));
    assert_eq!(panic.expect_err("a panic").downcast_ref::<&str>(), Some(&"index 3 of 2"));
}
