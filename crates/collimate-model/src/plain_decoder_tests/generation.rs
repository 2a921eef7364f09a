//! Generation with a cache against generation without one.

use collimate_text::EncodedPrompt;

use super::*;

/// Ten tokens at once, and each as the only one after a prompt that has those before it.
#[rstest]
fn a_cache_gives_the_tokens_of_a_prompt_that_is_computed_again(
    #[values("llama", "mistral", "gemma2", "qwen3_5_text")] architecture: &str,
) {
    const COUNT: usize = 10;
    let model = model(architecture, false);
    let ids = |start: usize, len: usize| (start..start + len).map(|i| (i * 31 % 97) as u32).collect::<Vec<_>>();
    // The first is longer than a chunk of a state, the second shorter than a convolution.
    let prompts = [ids(3, 40), ids(50, 2), ids(7, 9)];
    let generate = |prompts: &[Vec<u32>], max_new_tokens, num_samples| {
        let options = GenerateOptions { max_new_tokens, num_samples, ..GenerateOptions::default() };
        let prompts: Vec<EncodedPrompt> = prompts.iter().cloned().map(EncodedPrompt::from).collect();
        model.generate(&prompts, &options, |_| ()).expect("tokens")
    };
    let found = generate(&prompts, COUNT, 2);
    for (prompt, samples) in prompts.iter().zip(&found) {
        for sample in samples {
            assert_eq!(sample.len(), COUNT);
            let mut sequence = prompt.clone();
            for &token in sample {
                assert_eq!(generate(&[sequence.clone()], 1, 1)[0][0], [token], "after {} tokens", sequence.len());
                sequence.push(token);
            }
        }
    }
    let distinct: std::collections::BTreeSet<_> = found.iter().flatten().flatten().collect();
    assert!(distinct.len() > 3, "one token again and again shows nothing: {distinct:?}");
}
