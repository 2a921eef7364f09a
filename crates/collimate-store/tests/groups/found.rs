//! Stores of earlier runs: found, or made again.

use std::fs;
use std::path::Path;

use collimate_data::DataPart;
use collimate_store::{MixOptions, StoreFolder};
use collimate_text::{TokenizeOptions, tokenize_all};
use rstest::rstest;

use crate::common::{Asked, tokenizer, was_found};
use crate::scene::{Scene, everything, rows, stores};

#[test]
fn tokens_are_those_of_all_rows_at_once() {
    let scene = Scene::new(3000);
    let path = scene.folder.path().join("rows.jsonl");
    let groups: Vec<_> =
        collimate_data::DataSource::open(&path, &Default::default()).unwrap().map(Result::unwrap).collect();
    let (all, _) = tokenize_all(&groups, &scene.tokenizer, &TokenizeOptions::default()).unwrap();
    let prepared = scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    let store = &prepared.training;
    assert_eq!(store.len(), 3000);
    assert_eq!(store.groups().map(Result::unwrap).collect::<Vec<_>>(), all);
    for position in [2999, 0, 1234, 1, 2048] {
        assert_eq!(store.group(position).unwrap(), all[position]);
        let head = store.head(position).unwrap();
        assert_eq!((head.line, head.prompt_tokens), (all[position].line, all[position].prompt_ids.len()));
        let lengths: Vec<usize> = all[position].responses.iter().map(|response| response.ids.len()).collect();
        assert_eq!(head.responses.iter().map(|response| response.tokens as usize).collect::<Vec<_>>(), lengths);
    }
    assert!(store.group(3000).is_err());
    let responses: usize = all.iter().map(|group| group.responses.len()).sum();
    assert_eq!((store.totals().num_responses, store.totals().most_responses), (responses, 3));
    assert_eq!(store.totals().num_tokens() as usize, all.iter().map(|group| group.num_tokens()).sum::<usize>());
    assert_eq!(store.location(7).unwrap(), format!("{}:8", path.display()));
}

#[test]
fn a_second_run_finds_the_same_without_reading_a_row() {
    let scene = Scene::new(200);
    let asked = Asked { hold_out: 0.2, ..scene.asked() };
    let expected = scene.expected(&asked);
    let first = asked.prepare(&scene.tokenizer, &scene.stores()).unwrap();
    assert!(!was_found(&first) && stores(&scene.cache()).len() == 2);
    assert_eq!(everything(first), expected);
    let second = asked.prepare(&scene.tokenizer, &scene.stores()).unwrap();
    assert!(was_found(&second));
    let hash =
        scene.stores().content_hash(&second.training, second.held_out.as_ref().map(|store| store.as_ref().unwrap()));
    let again = asked.prepare(&scene.tokenizer, &StoreFolder::new(None)).unwrap();
    let plain =
        scene.stores().content_hash(&again.training, again.held_out.as_ref().map(|store| store.as_ref().unwrap()));
    assert_eq!(hash.unwrap(), plain.unwrap());
    assert_eq!(everything(second), expected);
}

#[test]
fn what_only_trains_makes_what_a_run_with_held_out_data_finds() {
    let scene = Scene::new(100);
    let asked = Asked { hold_out: 10.0, ..scene.asked() };
    asked.prepare(&scene.tokenizer, &scene.stores()).unwrap();
    fs::remove_file(&stores(&scene.cache())[0]).unwrap();
    let prepared = asked.prepare(&scene.tokenizer, &scene.stores()).unwrap();
    assert_eq!(prepared.notes.len(), 1, "one of two is found: {:?}", prepared.notes);
    assert_eq!(everything(prepared), scene.expected(&asked));
    assert_eq!(stores(&scene.cache()).len(), 2);
}

/// Each of these is another store.
#[rstest]
#[case::template(|asked: &mut Asked, scene: &Scene| { _ = asked; Some(tokenizer(&scene.folder.path().join("other"), "{{ messages[0].content }}.")) })]
#[case::limit(|asked: &mut Asked, _: &Scene| { asked.options.max_length = Some(12); None })]
#[case::draw(|asked: &mut Asked, _: &Scene| { asked.mix.max_samples = Some(9); None })]
#[case::seed(|asked: &mut Asked, _: &Scene| { asked.mix.seed = 9; None })]
#[case::weight(|asked: &mut Asked, _: &Scene| { asked.parts[0].weight = 0.5; None })]
#[case::filter(|asked: &mut Asked, _: &Scene| { asked.mix.min_reward_gap = 0.5; None })]
#[case::held_out(|asked: &mut Asked, _: &Scene| { asked.hold_out = 0.5; None })]
#[case::data(|_: &mut Asked, scene: &Scene| { rows(&scene.folder.path().join("rows.jsonl"), 51); None })]
#[case::more_data(|asked: &mut Asked, scene: &Scene| { asked.parts.push(more(scene)); None })]
fn whatever_changes_the_tokens_makes_another_store(
    #[case] change: fn(&mut Asked, &Scene) -> Option<collimate_text::TextTokenizer>,
) {
    let scene = Scene::new(50);
    scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    let mut asked = scene.asked();
    let other = change(&mut asked, &scene);
    let other = other.as_ref().unwrap_or(&scene.tokenizer);
    let prepared = asked.prepare(other, &scene.stores()).unwrap();
    assert!(!was_found(&prepared));
    assert_eq!(everything(prepared), everything(asked.prepare(other, &StoreFolder::new(None)).unwrap()));
}

fn more(scene: &Scene) -> DataPart {
    let path = scene.folder.path().join("more.jsonl");
    rows(&path, 5);
    DataPart::whole(path)
}

/// What is said names the file where it is now.
#[test]
fn data_that_was_moved_is_found_by_its_content() {
    let scene = Scene::new(50);
    let (old, new) = (scene.folder.path().join("rows.jsonl"), scene.folder.path().join("elsewhere/other.jsonl"));
    // A row twice, which a note tells with its lines.
    let text = fs::read_to_string(&old).unwrap();
    fs::write(&old, format!("{text}{}\n", text.lines().next().unwrap())).unwrap();
    let asked = Asked { hold_out: 0.2, ..scene.asked() };
    let first = asked.prepare(&scene.tokenizer, &scene.stores()).unwrap();
    let location = first.training.location(3).unwrap();
    let (_, _, notes) = everything(first);
    fs::create_dir(new.parent().unwrap()).unwrap();
    fs::rename(&old, &new).unwrap();
    let moved = Asked { hold_out: 0.2, ..Asked::new(&new) };
    let found = moved.prepare(&scene.tokenizer, &scene.stores()).unwrap();
    assert!(was_found(&found), "{:?}", found.notes);
    let named_now = |text: &str| text.replace(old.to_str().unwrap(), new.to_str().unwrap());
    assert_eq!(found.training.location(3).unwrap(), named_now(&location));
    let (_, _, now) = everything(found);
    assert_eq!(now, notes.iter().map(|note| named_now(note)).collect::<Vec<_>>());
    assert!(now.iter().any(|note| note.contains(&format!("{}:51 of {0}:1", new.display()))), "{now:?}");
}

/// Which share of a file is drawn depends on its own name, but not on its folder.
#[test]
fn a_share_of_a_file_is_found_under_its_own_name() {
    let scene = Scene::new(50);
    let old = scene.folder.path().join("rows.jsonl");
    let share = |path: &Path| {
        let mut asked = Asked::new(path);
        asked.parts[0].weight = 0.5;
        asked.prepare(&scene.tokenizer, &scene.stores()).unwrap()
    };
    share(&old);
    for (name, is_same) in [("elsewhere/rows.jsonl", true), ("elsewhere/other.jsonl", false)] {
        let copy = scene.folder.path().join(name);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&old, &copy).unwrap();
        assert_eq!(was_found(&share(&copy)), is_same, "{name}");
    }
}

/// A file of the same length in place of the old one, with the time of the old one.
#[test]
fn data_that_was_changed_in_secret_is_read_again() {
    let scene = Scene::new(50);
    let path = scene.folder.path().join("rows.jsonl");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(5000);
    let age = |path: &Path| fs::File::options().append(true).open(path).unwrap().set_modified(long_ago).unwrap();
    age(&path);
    scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("What is 30?", "What is 3?!")).unwrap();
    age(&path);
    let prepared = scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    assert!(!was_found(&prepared));
    assert_eq!(everything(prepared), scene.expected(&scene.asked()));
}

#[test]
fn several_runs_at_once_get_the_same() {
    let scene = Scene::new(2500);
    let expected = scene.expected(&scene.asked());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let prepared = scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
                    assert_eq!(everything(prepared), expected);
                }
            });
        }
    });
    let names: Vec<_> = fs::read_dir(scene.cache()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "nothing is left behind: {names:?}");
    assert_eq!(stores(&scene.cache()).len(), 1);
}

#[test]
fn the_folder_does_not_grow_without_end() {
    let scene = Scene::new(50);
    let mut sizes = Vec::new();
    for seed in 0..6 {
        let asked = Asked { mix: MixOptions { seed, ..MixOptions::default() }, ..scene.asked() };
        let size = sizes.iter().max().copied().unwrap_or(0);
        let place = if seed < 3 { scene.stores() } else { scene.stores().with_max_bytes(3 * size) };
        asked.prepare(&scene.tokenizer, &place).unwrap();
        sizes.push(stores(&scene.cache()).iter().map(|path| fs::metadata(path).unwrap().len()).max().unwrap());
        assert!(stores(&scene.cache()).len() <= if seed < 3 { seed as usize + 1 } else { 3 }, "seed {seed}");
        // Times of files are told apart.
        std::thread::sleep(std::time::Duration::from_millis(15));
    }
    let last = Asked { mix: MixOptions { seed: 5, ..MixOptions::default() }, ..scene.asked() };
    assert!(was_found(&last.prepare(&scene.tokenizer, &scene.stores()).unwrap()), "the last used is kept");
    let place = scene.stores().with_max_bytes(1);
    assert!(was_found(&last.prepare(&scene.tokenizer, &place).unwrap()), "what is in use stays");
}

#[test]
fn without_a_usable_folder_tokens_last_for_the_run() {
    let scene = Scene::new(50);
    fs::write(scene.cache(), "not a folder").unwrap();
    let prepared = scene.asked().prepare(&scene.tokenizer, &scene.stores()).unwrap();
    assert!(prepared.notes.iter().any(|note| note.contains("for this run only")), "{:?}", prepared.notes);
    assert_eq!(prepared.training.path(), None);
    assert_eq!(everything(prepared), scene.expected(&scene.asked()));
    assert_eq!(fs::read_to_string(scene.cache()).unwrap(), "not a folder");
}

/// The first error is the same, whatever order rows are tokenized in: a row of the training part, even after one that is held
/// out.
#[test]
fn errors_name_the_first_row_of_the_training_part() {
    let scene = Scene::new(400);
    let path = scene.folder.path().join("rows.jsonl");
    // No prompt leaves room for a response.
    let options = TokenizeOptions { max_length: Some(3), ..TokenizeOptions::default() };
    let asked = Asked { hold_out: 0.5, options, ..scene.asked() };
    let error = asked.prepare(&scene.tokenizer, &scene.stores()).map(drop).expect_err("no room").to_string();
    let whole = Asked { hold_out: 0.5, ..scene.asked() };
    let first = whole.prepare(&scene.tokenizer, &scene.stores()).unwrap().training.group(0).unwrap().line;
    assert!(error.starts_with(&format!("{}:{first}: ", path.display())), "{error}");
    assert!(stores(&scene.cache()).len() == 2, "only the sound ones are kept");
}

#[test]
fn tables_that_do_not_fit_are_refused() {
    let scene = Scene::new(2000);
    let asked = Asked { memory: Some(10_000), ..scene.asked() };
    let error = asked.prepare(&scene.tokenizer, &scene.stores()).map(drop).expect_err("too little").to_string();
    assert!(error.contains("2000 prompts need") && error.contains("rows.jsonl"), "{error}");
    assert!(Asked { memory: Some(100_000), ..scene.asked() }.prepare(&scene.tokenizer, &scene.stores()).is_ok());
}
