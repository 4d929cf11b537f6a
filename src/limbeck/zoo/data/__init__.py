"""Image data sets by name, from files on disk, and their augmentations."""

from limbeck.zoo.data.augment import CropFlip as CropFlip, Shift as Shift
from limbeck.zoo.data.sets import DataSet as DataSet, load_dataset as load_dataset
