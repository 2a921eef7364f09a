//! A session that is one of several: gradients are added up over ranks, and each rank updates its shards.

use std::ops::Range;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use collimate_backend::{FusedOps, Gradient, Moments};
use collimate_collective::{Collective, CollectiveError, reduce_scatter};
use collimate_hf::HostTensor;
use collimate_kernels::sum_of_squares;
use collimate_model::CausalLm;

use crate::error::SessionError;
use crate::files::{Checkpointed, MOMENTS, write_moments};
use crate::optimizer::{AdamW, UpdateOptions, UpdateStats, clip_factor};
use crate::shards::{Bucket, Segment, Trained, buckets};

/// Who updates what, and which parameters have moments by now, on any rank.
pub(crate) struct Sharded {
    buckets: Vec<Bucket>,
    /// By parameter.
    has_moments: Vec<bool>,
}

/// A model, its optimizer, and the ranks among which it is one.
pub(crate) struct Among<'a, B: FusedOps> {
    pub(crate) model: &'a mut CausalLm<B>,
    pub(crate) optimizer: &'a mut AdamW<B>,
    pub(crate) sharded: &'a mut Sharded,
    pub(crate) world: &'a dyn Collective,
}

impl Sharded {
    /// The shards of a model's trained parameters, in a world of so many ranks.
    pub(crate) fn new<B: FusedOps>(model: &CausalLm<B>, ranks: usize) -> Self {
        let len = |parameter: usize| model.parameters()[parameter].stored_shape().iter().product();
        let trained = model.trainable().into_iter().map(|parameter| Trained { parameter, len: len(parameter) });
        let has_moments = vec![false; model.parameters().len()];
        Self { buckets: buckets(&trained.collect::<Vec<_>>(), ranks), has_moments }
    }

    /// What a rank owns of each parameter; nothing of those that are not listed.
    fn segments(&self, rank: usize) -> impl Iterator<Item = Segment> + '_ {
        self.buckets.iter().flat_map(move |bucket| bucket.segments(rank))
    }
}

impl<B: FusedOps> Among<'_, B> {
    /// [`Session::update`](crate::Session::update): the gradient's norm is a sum over tiles in their order, so that neither it
    /// nor clipping depends on who owns which tile.
    pub(crate) fn update(&mut self, options: &UpdateOptions) -> Result<UpdateStats, SessionError> {
        let mut gradients: Vec<Gradient<B>> = vec![None; self.model.parameters().len()];
        self.model.trainable().into_iter().for_each(|index| gradients[index] = self.model.take_gradient(index));
        let is_present = self.present_anywhere(&gradients)?;
        let (mut shards, mut squares) = (Vec::new(), Vec::new());
        for bucket in &self.sharded.buckets {
            let sums = reduce_scatter(self.world, &numbers_of(bucket, &mut gradients), bucket.ranges())?;
            squares.extend(bucket.tiles(self.world.rank()).map(|tile| sum_of_squares(&sums[tile])));
            shards.push(sums);
        }
        let norm = self.sum_over_tiles(&squares)?.sqrt();
        if !norm.is_finite() || !options.apply {
            return Ok(UpdateStats { grad_norm: norm, applied: false });
        }
        let step = ShardStep { scale: clip_factor(norm, options.max_grad_norm), options, is_present: &is_present };
        self.optimizer.begin_step();
        for (number, sums) in shards.into_iter().enumerate() {
            self.update_bucket(number, &sums, &step)?;
        }
        self.sharded.has_moments.iter_mut().zip(is_present).for_each(|(has, now)| *has |= now);
        Ok(UpdateStats { grad_norm: norm, applied: true })
    }

    /// Which parameters have a gradient on some rank: of an expert, for example, that got tokens there.
    fn present_anywhere(&self, gradients: &[Gradient<B>]) -> Result<Vec<bool>, CollectiveError> {
        let mine: Vec<u8> = gradients.iter().map(|gradient| u8::from(gradient.is_some())).collect();
        let all = self.world.all_gather(&mine)?;
        Ok((0..mine.len()).map(|index| all.iter().any(|rank| rank.get(index) == Some(&1))).collect())
    }

    /// The sum of what all ranks found for their tiles, in the order of tiles.
    fn sum_over_tiles(&self, mine: &[f64]) -> Result<f64, CollectiveError> {
        let bytes: Vec<u8> = mine.iter().flat_map(|square| square.to_le_bytes()).collect();
        let all = self.world.all_gather(&bytes)?;
        let mut rest: Vec<_> = all.iter().map(|bytes| bytes.as_chunks::<8>().0.iter()).collect();
        let mut sum = 0.0;
        for bucket in &self.sharded.buckets {
            for (rank, rest) in rest.iter_mut().enumerate() {
                let tiles = rest.by_ref().take(bucket.tiles(rank).count());
                tiles.for_each(|bytes| sum += f64::from_le_bytes(*bytes));
            }
        }
        Ok(sum)
    }

    /// Updates this rank's shard of a bucket and gathers those of the others.
    fn update_bucket(&mut self, number: usize, sums: &[f32], step: &ShardStep<'_>) -> Result<(), SessionError> {
        let bucket = &self.sharded.buckets[number];
        let parts = || bucket.parts().iter().filter(|part| step.is_present[part.parameter]);
        let mut old: Vec<_> = parts().map(|part| Some(self.model.take_parameter(part.parameter))).collect();
        let mut updated = Vec::with_capacity(sums.len());
        for segment in bucket.segments(self.world.rank()).filter(|segment| step.is_present[segment.parameter]) {
            let place = parts().position(|part| part.parameter == segment.parameter);
            let Some(whole) = place.and_then(|place| old[place].take()) else { continue };
            let (len, device) = (segment.of_parameter.len(), whole.device());
            let gradient = Tensor::from_data(TensorData::new(sums[segment.of_shard].to_vec(), [1, len]), &device);
            let count = whole.dims().iter().product();
            let parameter = whole.reshape([1, count]).slice([0..1, segment.of_parameter]);
            let own = step.options.for_parameter(&self.model.parameters()[segment.parameter].name);
            let new = self.optimizer.update(segment.parameter, parameter, &gradient, step.scale, &own);
            updated.extend(new.into_data().iter::<f32>());
        }
        let to_all = vec![0..updated.len(); self.world.size()];
        let all = self.world.all_to_all(&updated, &to_all)?;
        let mut rest: Vec<&[f32]> = all.iter().map(Vec::as_slice).collect();
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); self.model.parameters().len()];
        for (rank, rest) in rest.iter_mut().enumerate() {
            for segment in bucket.segments(rank).filter(|segment| step.is_present[segment.parameter]) {
                let len = segment.of_parameter.len();
                let found = rest.len();
                let part = rest.split_off(..len).ok_or(CollectiveError::Length { rank, found, expected: len })?;
                values[segment.parameter].extend_from_slice(part);
            }
        }
        let present: Vec<usize> = parts().map(|part| part.parameter).collect();
        for index in present {
            let shape = self.model.parameters()[index].stored_shape();
            let device = self.model.parameter(index).device();
            let value = Tensor::from_data(TensorData::new(std::mem::take(&mut values[index]), shape), &device);
            self.model.set_parameter(index, value);
        }
        Ok(())
    }

    /// [`Session::load_checkpoint`](crate::Session::load_checkpoint): each rank reads the whole file and keeps its shards.
    pub(crate) fn load(&mut self, dir: &Path) -> Result<(), SessionError> {
        let checkpoint = Checkpointed::open(self.model, dir)?;
        self.optimizer.step = checkpoint.step()?;
        self.optimizer.moments.iter_mut().for_each(|moments| *moments = None);
        for Segment { parameter, of_parameter, .. } in self.sharded.segments(self.world.rank()) {
            let device = self.model.parameter(parameter).device();
            let moment = |kind: &str| -> Result<Tensor<B, 2>, SessionError> {
                let value = checkpoint.read(&self.model.parameters()[parameter], kind)?;
                let (numbers, len) = (value.data[of_parameter.clone()].to_vec(), of_parameter.len());
                Ok(Tensor::from_data(TensorData::new(numbers, [1, len]), &device))
            };
            let [m, v] = MOMENTS.map(moment);
            self.optimizer.moments[parameter] = Some(Moments { m: m?, v: v? });
        }
        self.model.trainable().into_iter().for_each(|index| self.sharded.has_moments[index] = true);
        Ok(())
    }
}

/// [`Session::save_optimizer`](crate::Session::save_optimizer): the first rank writes, parameter by parameter, what the others
/// send it.
pub(crate) fn save<B: FusedOps>(
    model: &CausalLm<B>,
    optimizer: &AdamW<B>,
    sharded: &Sharded,
    world: &dyn Collective,
    dir: &Path,
) -> Result<(), SessionError> {
    let mut failed = None;
    let written: Vec<usize> = model.trainable().into_iter().filter(|index| sharded.has_moments[*index]).collect();
    let moments = written.iter().flat_map(|&index| MOMENTS.map(|kind| (index, kind)));
    let mut tensors = moments.map_while(|(index, kind)| {
        let own = optimizer.moments[index].as_ref().map(|Moments { m, v }| if kind == MOMENTS[0] { m } else { v });
        let own: Vec<f32> = own.map(|moment| moment.to_data().iter::<f32>().collect()).unwrap_or_default();
        match to_first(world, &own) {
            Ok(data) => Some(HostTensor { shape: model.parameters()[index].stored_shape().to_vec(), data }),
            Err(error) => {
                failed = Some(error);
                None
            }
        }
    });
    let result = match world.rank() {
        0 => write_moments(model, optimizer.step, &written, &mut tensors, dir),
        _ => Ok(()),
    };
    // The other ranks send what is left, even if it could not be written.
    tensors.for_each(drop);
    failed.map_or(result, |error| Err(error.into()))
}

/// What clips and updates the numbers of a step.
struct ShardStep<'a> {
    scale: f64,
    options: &'a UpdateOptions,
    /// By parameter.
    is_present: &'a [bool],
}

/// A bucket's gradients as one list. Where there is none on this rank, it is zero.
fn numbers_of<B: FusedOps>(bucket: &Bucket, gradients: &mut [Gradient<B>]) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(bucket.len());
    for part in bucket.parts() {
        if let Some(gradient) = gradients[part.parameter].take() {
            numbers.extend(gradient.into_data().iter::<f32>());
        }
        numbers.resize(part.numbers.end, 0.0);
    }
    numbers
}

/// Sends numbers to the first rank, which gets those of all in the order of ranks.
fn to_first(world: &dyn Collective, mine: &[f32]) -> Result<Vec<f32>, CollectiveError> {
    let mut ranges: Vec<Range<usize>> = vec![0..0; world.size()];
    ranges[0] = 0..mine.len();
    Ok(world.all_to_all(mine, &ranges)?.concat())
}
