//! Exit codes of other crates' errors: 2 for bad input, 1 for everything else.

use collimate_collective::CollectiveError;
use collimate_hub::HubError;
use collimate_report::ReportError;
use collimate_train::TrainError;

/// A wrong name is bad input; a failing network or disk is not.
pub(super) fn hub_exit_code(error: &HubError) -> u8 {
    match error {
        HubError::Network { .. } | HubError::Stopped { .. } | HubError::File { .. } => 1,
        _ => 2,
    }
}

/// A damaged file is bad input; one that cannot be read or written is not.
pub(super) fn report_exit_code(error: &ReportError) -> u8 {
    if matches!(error, ReportError::Metrics { .. }) { 2 } else { 1 }
}

/// How the program was built or started is bad input; a rank that ends is not.
pub(super) fn ranks_exit_code(error: &CollectiveError) -> u8 {
    match error {
        CollectiveError::WithoutMpi { .. } | CollectiveError::Variable { .. } | CollectiveError::OtherWorld { .. } => 2,
        _ => 1,
    }
}

/// What the data, the recipe or the user caused is bad input; a failing disk, device or number is not.
pub(super) fn train_exit_code(error: &TrainError) -> u8 {
    match error {
        TrainError::Io { .. }
        | TrainError::Write(_)
        | TrainError::Locked(_)
        | TrainError::OutputTaken { .. }
        | TrainError::DiskSpace(_)
        | TrainError::Checkpoint { .. }
        | TrainError::SelfCheck { .. }
        | TrainError::NotFinite { .. }
        | TrainError::RowNotFinite { .. }
        | TrainError::WeightsNotFinite { .. }
        | TrainError::Tokens(_) => 1,
        TrainError::Report(error) => report_exit_code(error),
        TrainError::Ranks(error) => ranks_exit_code(error),
        TrainError::Interrupted { signal, .. } => u8::try_from(128 + signal).unwrap_or(1),
        _ => 2,
    }
}
