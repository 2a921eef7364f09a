//! The papers of an objective as links and BibTeX.

use std::fmt::Write;

/// arXiv number, title and authors of known papers.
const PAPERS: [(&str, &str, &str); 13] = [
    (
        "2402.05369",
        "Noise Contrastive Alignment of Language Models with Explicit Rewards",
        "Chen, Huayu and He, Guande and Yuan, Lifan and Cui, Ganqu and Su, Hang and Zhu, Jun",
    ),
    (
        "2305.18290",
        "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        "Rafailov, Rafael and Sharma, Archit and Mitchell, Eric and others",
    ),
    (
        "2310.12036",
        "A General Theoretical Paradigm to Understand Learning from Human Preferences",
        "Azar, Mohammad Gheshlaghi and Rowland, Mark and Piot, Bilal and others",
    ),
    (
        "2305.10425",
        "SLiC-HF: Sequence Likelihood Calibration with Human Feedback",
        "Zhao, Yao and Joshi, Rishabh and Liu, Tianqi and others",
    ),
    (
        "2309.06657",
        "Statistical Rejection Sampling Improves Preference Optimization",
        "Liu, Tianqi and Zhao, Yao and Joshi, Rishabh and others",
    ),
    ("2404.04656", "Binary Classifier Optimization for Large Language Model Alignment", "Jung, Seungjae and others"),
    (
        "2408.06266",
        "Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification in Alignment",
        "D'Oosterlinck, Karel and others",
    ),
    (
        "2401.08417",
        "Contrastive Preference Optimization: Pushing the Boundaries of LLM Performance in Machine Translation",
        "Xu, Haoran and Sharaf, Amr and Chen, Yunmo and others",
    ),
    (
        "2405.00675",
        "Self-Play Preference Optimization for Language Model Alignment",
        "Wu, Yue and Sun, Zhiqing and Yuan, Huizhuo and others",
    ),
    (
        "2403.00409",
        "Provably Robust DPO: Aligning Language Models with Noisy Feedback",
        "Ray Chowdhury, Sayak and Kini, Anush and Natarajan, Nagarajan",
    ),
    ("2402.00856", "Towards Efficient Exact Optimization of Language Model Alignment", "Ji, Haozhe and others"),
    (
        "2405.14734",
        "SimPO: Simple Preference Optimization with a Reference-Free Reward",
        "Meng, Yu and Xia, Mengzhou and Chen, Danqi",
    ),
    (
        "2403.07691",
        "ORPO: Monolithic Preference Optimization without Reference Model",
        "Hong, Jiwoo and Lee, Noah and Thorne, James",
    ),
];

/// BibTeX entries of the papers in a registry's line; empty if it names none.
pub(super) fn section(paper: &str) -> String {
    let ids = arxiv_ids(paper);
    if ids.is_empty() {
        return String::new();
    }
    let mut text = "\n## Citation\n\n```bibtex\n".to_owned();
    for id in ids {
        let _ = writeln!(text, "@misc{{arxiv{id},");
        if let Some((_, title, authors)) = PAPERS.iter().find(|(known, _, _)| known == &id) {
            let _ = write!(text, "  title = {{{title}}},\n  author = {{{authors}}},\n");
        }
        let _ = write!(
            text,
            "  year = {{20{}}},\n  eprint = {{{id}}},\n  archivePrefix = {{arXiv}},\n  url = \
             {{https://arxiv.org/abs/{id}}}\n}}\n",
            &id[..2],
        );
    }
    text + "```\n"
}

/// The line with arXiv numbers as links.
pub(super) fn linked(paper: &str) -> String {
    arxiv_ids(paper)
        .into_iter()
        .fold(paper.to_owned(), |line, id| line.replace(id, &format!("[{id}](https://arxiv.org/abs/{id})")))
}

/// arXiv numbers, of the form 2402.05369.
fn arxiv_ids(paper: &str) -> Vec<&str> {
    let is_id = |word: &&str| {
        let digits = |part: &str, len: usize| part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit());
        word.split_once('.').is_some_and(|(month, number)| digits(month, 4) && digits(number, 5))
    };
    paper.split(|c: char| !c.is_ascii_digit() && c != '.').filter(is_id).collect()
}
