//! The table of backends, and dispatch by a backend's name.

use collimate_backend::{
    BACKENDS, BackendError, BackendJob, ComputeDtype, FusedOps, MatmulPrecision, check_dtype, device_memory, devices,
    dispatch, keeps_packed, matmul_precision, multiplies_in, weight_costs,
};
use collimate_quantized::Format;

struct Sum;

impl BackendJob for Sum {
    type Output = f32;

    fn run<B: FusedOps>(self, device: B::Device) -> f32 {
        let x = burn::tensor::Tensor::<B, 1>::from_data([1.0f32, 2.0, 4.0], &device);
        x.sum().into_data().convert::<f32>().to_vec().expect("one float")[0]
    }
}

#[test]
fn a_job_runs_on_the_backend_named() {
    assert_eq!(dispatch("flex", 0, Sum), Ok(1.0 + 2.0 + 4.0));
}

#[test]
fn unknown_backends_and_devices_are_refused_with_the_remedy() {
    let unknown = dispatch("flx", 0, Sum).expect_err("no such backend");
    let expected = "unknown backend \"flx\" (did you mean \"flex\"?); this build has: flex";
    assert!(unknown.to_string().starts_with(expected), "{unknown}");
    let device = dispatch("flex", 3, Sum).expect_err("no such device");
    assert!(device.to_string().contains("no device 3"), "{device}");
    assert_eq!(device_memory("flex", 3), Err(device));
}

#[test]
fn backends_keep_the_formats_packed_that_they_have_kernels_for() {
    for format in [Format::NF4, Format::NF4_DOUBLE, Format::Int8] {
        for backend in BACKENDS {
            assert_eq!(keeps_packed(backend.name, format), Ok(true), "{} {format}", backend.name);
        }
    }
    for format in [Format::Mxfp4, Format::Awq { group: 128 }] {
        for backend in BACKENDS {
            assert_eq!(keeps_packed(backend.name, format), Ok(backend.name == "flex"), "{} {format}", backend.name);
        }
    }
    assert!(keeps_packed("flx", Format::Int8).is_err());
}

#[test]
fn a_product_takes_memory_for_a_weight_that_it_does_not_unpack_by_panels() {
    let (float32, bfloat16) = (ComputeDtype::Float32, ComputeDtype::Bfloat16);
    for backend in BACKENDS {
        let bytes = weight_costs(backend.name).expect("a known backend").unpacking;
        let taken = |format| [bytes(format, float32), bytes(format, bfloat16)];
        let of = [Some(Format::NF4), Some(Format::Int8), Some(Format::Mxfp4), None].map(taken);
        let expected = match backend.name {
            "flex" => [[0, 0]; 4],
            "libtorch" => [[12, 12], [4, 4 + 2], [4, 4 + 2], [4, 4 + 2]],
            // A kernel writes what the product reads; other formats are uploaded in float32.
            _ => [[4, 2], [4, 2], [4, 4 + 2], [4, 4 + 2]],
        };
        assert_eq!(of, expected, "{}", backend.name);
    }
    assert!(weight_costs("flx").is_err());
}

#[test]
fn a_type_that_a_backend_does_not_compute_in_is_refused_with_those_that_it_has() {
    for dtype in ComputeDtype::ALL {
        assert_eq!(check_dtype("flex", 0, dtype), Ok(()));
    }
    let supported = vec!["float32"];
    let error = BackendError::Dtype { backend: "wgpu".to_owned(), index: 0, dtype: "bfloat16", supported }.to_string();
    let expected = "backend \"wgpu\" computes in float32 on device 0, not in bfloat16; leave it at float32, or";
    assert!(error.starts_with(expected), "{error}");
    assert!(
        check_dtype("flex", 3, ComputeDtype::Bfloat16).is_err_and(|error| error.to_string().contains("no device 3"))
    );
}

#[test]
fn flex_multiplies_in_bfloat16_where_the_processor_does() {
    let products = collimate_kernels::bfloat16_products().is_some();
    assert_eq!(multiplies_in("flex", ComputeDtype::Bfloat16), Ok(products));
    assert_eq!(multiplies_in("flex", ComputeDtype::Float32), Ok(true));
    assert!(multiplies_in("flx", ComputeDtype::Float32).is_err());
}

#[test]
fn only_flex_has_lower_precisions() {
    for precision in MatmulPrecision::ALL {
        assert_eq!(matmul_precision("flex", precision), Ok(precision.on_this_processor()));
        for backend in BACKENDS.iter().filter(|backend| backend.compiled && backend.name != "flex") {
            assert_eq!(matmul_precision(backend.name, precision).is_ok(), precision == MatmulPrecision::Highest);
        }
    }
}

#[test]
fn a_known_backend_that_is_not_compiled_in_says_how_to_get_it() {
    for backend in BACKENDS.iter().filter(|backend| !backend.compiled) {
        let message = devices(backend.name).expect_err("not compiled in").to_string();
        assert!(message.contains(&format!("cargo xtask train --backend {}", backend.name)), "{message}");
    }
    assert!(devices("flex").is_ok_and(|devices| devices.len() == 1));
    assert_eq!(device_memory("flex", 0), Ok(devices("flex").expect("the CPU")[0].memory.clone()));
}
