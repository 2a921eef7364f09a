use collimate_data::DataFiles;
use collimate_images::{Grid, ImageSource, PromptImage};
use collimate_store::{StoreFolder, store_of};
use collimate_text::{PlacedImage, TokenizedResponse};
use rstest::rstest;

use collimate_session::{InputFolders, OVERHEAD};

use super::*;

const COSTS: MemoryCosts = MemoryCosts {
    weights: 400,
    in_files: 0,
    resident: 1000,
    unpacking: 0,
    per_token: 10,
    per_image_token: 0,
    per_kept_block: 4,
    per_input: 3,
    per_waiting: 4,
    trains_tower: false,
    num_blocks: 5,
    shares_embedding: false,
};

fn group(line: usize, prompt: usize, lengths: &[usize]) -> TokenizedGroup {
    let response = |&len: &usize| TokenizedResponse { ids: vec![1; len], reward: 0.0, num_cut: 0 };
    TokenizedGroup {
        index: line - 1,
        line,
        prompt_ids: vec![1; prompt],
        responses: lengths.iter().map(response).collect(),
        ..TokenizedGroup::default()
    }
}

fn budget(max_tokens: u64, share_prompt: bool) -> PassBudget {
    let bytes = OVERHEAD + COSTS.resident + COSTS.per_token * max_tokens;
    let recipe = Recipe { share_prompt, ..Recipe::default() };
    PassBudget::new(Some(bytes), COSTS, &recipe).expect("a budget")
}

fn pack(parts: impl IntoIterator<Item = (usize, Range<usize>)>) -> Pack {
    Pack { parts: parts.into_iter().map(|(group, responses)| PackPart { group, responses }).collect() }
}

#[test]
fn only_the_tokens_of_images_take_the_memory_of_the_tower() {
    let image = |source: u8| {
        let (grid, merged) = (Grid { rows: 4, columns: 4 }, Grid { rows: 2, columns: 2 });
        let image = PromptImage::known(ImageSource::Bytes([source].into()), [source; 32], grid, [56, 56]);
        PlacedImage { image, tokens: 0..4, grid: merged }
    };
    let pictured = |line| TokenizedGroup { images: vec![image(line as u8)], ..group(line, 10, &[5, 5]) };
    let costs = MemoryCosts { per_image_token: 15, ..COSTS };
    let bytes = |tokens| least_held(&costs) + costs.per_token * tokens;
    let budget = |tokens| PassBudget::new(Some(bytes(tokens)), costs, &Recipe::default()).expect("a budget");
    // 10 tokens and 4 · 15 bytes of the tower, which are those of 6 tokens; then 2 · 5.
    let whole = Pack { parts: vec![PackPart { group: 0, responses: 0..2 }] };
    assert_eq!(budget(26).pack_charge(&[pictured(1)], &whole), 26);
    assert_eq!(budget(26).pack_tokens(&[pictured(1)], &whole), 20);
    assert_eq!(budget(26).batch_charge(&budget(26).batch(&[pictured(1)], &whole)), 26);
    assert_eq!(budget(26).packs(&[pictured(1)]).expect("packs").len(), 1);
    assert_eq!(budget(25).packs(&[pictured(1)]).expect("packs").len(), 2);
    assert_eq!(budget(20).packs(&[group(1, 10, &[5, 5])]).expect("packs").len(), 1);
    let error = budget(20).packs(&[pictured(3)]).expect_err("too little").to_string();
    assert!(error.contains("15 tokens") && error.contains("line 3"), "{error}");
}

#[rstest]
// Everything fits: 10 + 4·5 + 10 + 2·5 = 50 tokens.
#[case(50, true, "0:0..4 1:0..2")]
// A group that fits into a pack on its own is not split.
#[case(49, true, "0:0..4 | 1:0..2")]
// Two responses with their prompt are 20 tokens.
#[case(20, true, "0:0..2 | 0:2..4 | 1:0..2")]
// With a prompt of its own each response has 15 tokens.
#[case(30, false, "0:0..2 | 0:2..4 | 1:0..2")]
#[case(15, false, "0:0..1 | 0:1..2 | 0:2..3 | 0:3..4 | 1:0..1 | 1:1..2")]
fn packs_are_few_and_fit(#[case] limit: u64, #[case] share: bool, #[case] expected: &str) {
    let groups = [group(1, 10, &[5; 4]), group(2, 10, &[5; 2])];
    let packs = budget(limit, share).packs(&groups).expect("packs");
    let part = |part: &PackPart| format!("{}:{:?}", part.group, part.responses);
    let pack = |pack: &Pack| pack.parts().iter().map(part).collect::<Vec<_>>().join(" ");
    assert_eq!(packs.iter().map(pack).collect::<Vec<_>>().join(" | "), expected);
}

#[rstest]
#[case(true, 2 * 10 + 4 * 5 + 2 * 5)]
#[case(false, 6 * (10 + 5))]
fn a_pack_has_the_tokens_of_its_batch(#[case] share: bool, #[case] tokens: usize) {
    let groups = [group(1, 10, &[5; 4]), group(2, 10, &[5; 2])];
    let budget = budget(100, share);
    let pack = pack([(0, 0..4), (1, 0..2)]);
    assert_eq!(budget.pack_tokens(&groups, &pack), tokens);
    assert_eq!(budget.batch(&groups, &pack).num_tokens(), tokens);
    assert_eq!(budget.pack_bytes(tokens, 2), tokens as u64 * (10 + 4));
    assert_eq!(budget.pack_bytes(tokens, 0), budget.pack_bytes(tokens, 1));
}

#[test]
fn a_response_that_fits_nowhere_is_named() {
    let groups = [group(7, 10, &[5, 6])];
    let store = store_of(&groups, &DataFiles::one("data.jsonl")).expect("a store");
    let data = DataSet::new(store, StoreFolder::new(None));
    let error = budget(15, true).packs(&groups).expect_err("16 tokens").to_string();
    assert!(error.starts_with("line 7 of the data, response 1: 16 tokens with its prompt"), "{error}");
    let error = budget(15, true).check(&data, 0..data.len()).expect_err("16 tokens").to_string();
    assert!(error.starts_with("data.jsonl:7, response 1: 16 tokens"), "{error}");
    assert!(budget(16, true).check(&data, 0..data.len()).is_ok());
}

#[test]
fn what_is_left_of_the_budget_keeps_activations() {
    // 100 tokens leave 100 · 10 bytes, 2 blocks of 100 · 4 and something.
    assert_eq!(budget(200, true).kept_blocks(100), 2);
    assert_eq!(budget(100, true).kept_blocks(100), 0);
    assert_eq!(budget(10_000, true).kept_blocks(100), 5);
    let unbounded = PassBudget::new(None, COSTS, &Recipe::default()).expect("a budget");
    assert_eq!(unbounded.kept_blocks(1 << 40), 5);
}

#[test]
fn a_budget_below_the_parameters_is_refused() {
    let error = PassBudget::new(Some(1000), COSTS, &Recipe::default()).expect_err("no room").to_string();
    assert!(error.contains("memory_budget") && error.contains("too little"), "{error}");
}

#[test]
fn values_follow_their_pack() {
    let values = vec![vec![1, 2, 3], vec![4, 5]];
    assert_eq!(pack([(0, 1..3), (1, 0..1)]).select(&values), [vec![2, 3], vec![4]]);
}

#[test]
fn what_is_held_of_the_data_is_taken_from_the_passes() {
    let tokens = |data: u64| budget(2_000_000, true).beside(data).map(|budget| budget.max_tokens());
    assert_eq!(tokens(DATA_SHARE).expect("room"), 2_000_000);
    assert_eq!(tokens(DATA_SHARE + 10 * 500_000).expect("room"), 1_500_000);
    let error = tokens(DATA_SHARE + 10 * 2_000_000).expect_err("no room").to_string();
    assert!(error.contains("memory_budget") && error.contains("what is held of the data needs"), "{error}");
}

#[rstest]
// 80 tokens are one pack.
#[case(80, "80", true)]
// The inputs of 80 tokens take 320 bytes, 7 bytes a token are left for the pack that is computed: 65 tokens.
#[case(79, "50 30", true)]
// Groups that must be divided compute their prompts again: 110 tokens for 80 cost more than another forward pass.
#[case(55, "50 30", false)]
fn packs_wait_together_if_there_is_room_and_it_is_less_work(
    #[case] max_tokens: u64,
    #[case] expected: &str,
    #[case] together: bool,
) {
    let groups = [group(1, 10, &[10; 4]), group(2, 10, &[10; 2])];
    let budget = budget(max_tokens, true);
    let (packs, found) = budget.step_packs(&groups).expect("packs");
    let tokens: Vec<_> = packs.iter().map(|pack| budget.pack_tokens(&groups, pack).to_string()).collect();
    assert_eq!((tokens.join(" ").as_str(), found), (expected, together));
    if found && packs.len() > 1 {
        assert!(budget.bytes_together(&groups, &packs, &InputsIn::Device) <= budget.activations.unwrap_or(0));
    }
}

#[test]
fn values_of_packs_are_gathered_by_group() {
    let packs = [pack([(0, 0..2)]), pack([(0, 2..3), (1, 0..1)])];
    let values = [vec![vec![1, 2]], vec![vec![3], vec![4]]];
    assert_eq!(by_group(&packs, values, 2), [vec![1, 2, 3], vec![4]]);
}

/// A budget of 70 tokens for a model whose inputs of blocks take 64 bytes of a token's 100, in a pass of so many operations.
fn wide_budget(operations: u64, host: Option<u64>) -> PassBudget {
    let costs =
        MemoryCosts { per_token: 100, per_kept_block: 40, per_input: 64, per_waiting: 68, num_blocks: 16, ..COSTS };
    let allowance = Allowance { bytes: Some(OVERHEAD + costs.resident + 100 * 70), origin: None, host };
    PassBudget::new(allowance, costs, &Recipe::default()).expect("a budget").for_operations(operations)
}

/// 80 tokens in packs of 50 and 30, which have no room for more than the first's activations: on the device they would need
/// 80 · 68 + 50 · 36 bytes; elsewhere 80 · 4 + 50 · (36 + 4).
#[rstest]
// 64 bytes at 0.5 GB/s take 128 ns, and so do 12,800 operations at 100 GFLOP/s.
#[case::slow_disk(12_800, None, None)]
#[case::quick_disk(26_000, None, Some("file"))]
#[case::unknown_work(0, None, None)]
// 64 bytes at 50 GB/s take 1.28 ns, and so do 512,000 operations at 400 TFLOP/s.
#[case::slow_bus(512_000, Some(1 << 20), None)]
#[case::quick_bus(1_100_000, Some(1 << 20), Some("host"))]
#[case::full_host(1_100_000, Some(80 * 64 - 1), None)]
#[case::just_enough_host(1_100_000, Some(80 * 64), Some("host"))]
fn inputs_wait_where_that_is_less_work(
    #[case] operations: u64,
    #[case] host: Option<u64>,
    #[case] expected: Option<&str>,
) {
    let groups = [group(1, 10, &[10; 4]), group(2, 10, &[10; 2])];
    let (budget, folder) = (wide_budget(operations, host), tempfile::tempdir().expect("a folder"));
    let passes = budget.passes(&groups, &InputFolders::of_run(folder.path())).expect("passes");
    let found = passes.together.as_ref().map(|place| match place {
        InputsIn::Device => "device",
        InputsIn::Host => "host",
        InputsIn::File(path) => {
            assert_eq!(path, folder.path());
            "file"
        }
    });
    assert_eq!(found, expected);
    // The packs are the same wherever their inputs wait, so the sums are as well.
    assert_eq!((passes.packs, false), budget.step_packs(&groups).expect("packs"));
    if let Some(place) = &passes.together {
        let packs = budget.packs(&groups).expect("packs");
        assert_eq!(budget.input_bytes(&groups, &packs), 80 * 64);
        assert_eq!(budget.bytes_together(&groups, &packs, place), 80 * 4 + 50 * (36 + 4));
    }
}

#[test]
fn a_tied_embedding_that_is_trained_never_waits() {
    let groups = [group(1, 10, &[10; 4]), group(2, 10, &[10; 2])];
    let mut budget = wide_budget(1 << 40, None);
    let folders = InputFolders::of_run(std::path::Path::new("."));
    assert!(budget.passes(&groups, &folders).expect("passes").together.is_some());
    budget.costs.shares_embedding = true;
    assert_eq!(budget.passes(&groups, &folders).expect("passes").together, None);
}
