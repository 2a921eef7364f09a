//! Kernel benchmarks: GFLOP/s and GB/s, and their fraction of the machine's measured peak.
//!
//! `cargo bench -p collimate-benches --bench ops -- [NAME] [--json FILE]` runs those whose name contains NAME.

mod kernels;
mod peak;
mod products;

use std::process::ExitCode;
use std::time::Instant;

use collimate_benches::figures::{median, table};
use collimate_report::provenance::Machine;
use kernels::Op;
use peak::Peak;
use serde_json::{Value, json};

/// Measured runs of each kernel.
const NUM_RUNS: usize = 7;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let position = args.iter().position(|argument| argument == "--json");
    let json_file = position.and_then(|position| args.get(position + 1));
    let is_filter = |i: &usize| position.is_none_or(|position| *i != position && *i != position + 1);
    let filter = (0..args.len()).find(is_filter).map(|i| args[i].as_str()).unwrap_or_default();

    let peak = peak::measure();
    println!("peak: {:.0} GFLOP/s, {:.1} GB/s ({} threads)\n", peak.gflops, peak.gbps, rayon::current_num_threads());
    let kernels = kernels::all().into_iter().map(|op| (op, peak.gflops));
    let products = products::all().into_iter().map(|product| (product.op, product.peak_gflops.unwrap_or(peak.gflops)));
    let ops = kernels.chain(products).filter(|(op, _)| op.name.contains(filter));
    let measured: Vec<Measured> = ops.map(|(op, peak_gflops)| measure(op, peak_gflops)).collect();
    let rows: Vec<Vec<String>> = measured.iter().map(|op| op.cells(&peak)).collect();
    print!("{}", table(&["kernel", "type", "shape", "ms", "GFLOP/s", "of peak", "GB/s", "of peak"], &rows));

    println!("GFLOP/s are of the peak of the instructions that a kernel uses.");
    println!("Of GB/s more than the peak, which is of memory, comes from caches.");
    let ops: Vec<Value> = measured.iter().map(|op| op.json(&peak)).collect();
    let result = json!({"machine": Machine::here(), "peak": {"gflops": peak.gflops, "gbps": peak.gbps}, "ops": ops});
    match json_file.map(|path| std::fs::write(path, format!("{result:#}\n"))) {
        Some(Err(error)) => {
            eprintln!("error: cannot write the results: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

struct Measured {
    name: &'static str,
    dtype: &'static str,
    shape: String,
    seconds: Vec<f64>,
    flops: f64,
    /// What the instructions of the kernel reach at best.
    peak_gflops: f64,
    bytes: f64,
}

fn measure(mut op: Op, peak_gflops: f64) -> Measured {
    (op.run)();
    let once = |_| {
        let begun = Instant::now();
        (op.run)();
        begun.elapsed().as_secs_f64()
    };
    Measured {
        name: op.name,
        dtype: op.dtype,
        shape: op.shape,
        seconds: (0..NUM_RUNS).map(once).collect(),
        flops: op.flops,
        peak_gflops,
        bytes: op.bytes,
    }
}

impl Measured {
    fn gflops(&self) -> f64 {
        self.flops / median(&self.seconds) / 1e9
    }

    fn gbps(&self) -> f64 {
        self.bytes / median(&self.seconds) / 1e9
    }

    fn cells(&self, peak: &Peak) -> Vec<String> {
        let percent = |part: f64| format!("{:.0} %", 100.0 * part);
        vec![
            self.name.to_owned(),
            self.dtype.to_owned(),
            self.shape.clone(),
            format!("{:.3}", 1e3 * median(&self.seconds)),
            format!("{:.1}", self.gflops()),
            percent(self.gflops() / self.peak_gflops),
            format!("{:.1}", self.gbps()),
            percent(self.gbps() / peak.gbps),
        ]
    }

    fn json(&self, peak: &Peak) -> Value {
        json!({
            "name": self.name, "dtype": self.dtype, "shape": self.shape,
            "seconds": self.seconds, "flops": self.flops, "bytes": self.bytes,
            "gflops": self.gflops(), "gflops_of_peak": self.gflops() / self.peak_gflops,
            "gbps": self.gbps(), "gbps_of_peak": self.gbps() / peak.gbps,
        })
    }
}
