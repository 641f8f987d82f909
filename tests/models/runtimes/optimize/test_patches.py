import pytest
from torch import nn

from models.runtimes.optimize.patches import MatrixPatches, fold_batch_norms, patches_by_matrix


@pytest.mark.parametrize("name", ["plain", "linear patches", "segmenting ViT"])
def test_matrix_patches_equal_the_plain_patches(name, network, assert_same):
    plain = network(name)
    rewritten = patches_by_matrix(plain)
    assert isinstance(rewritten.patch_embedding, MatrixPatches)
    assert_same(rewritten, plain)


@pytest.mark.parametrize("name", ["normalized patches", "hybrid"])
def test_nonlinear_patch_embeddings_are_not_changed(name, network):
    plain = network(name)
    assert type(patches_by_matrix(plain).patch_embedding) is type(plain.patch_embedding)


@pytest.mark.parametrize("name", ["hybrid", "segmenting ViT", "segmenting axial ViT"])
def test_batch_norms_are_folded_into_adjacent_layers(name, network, assert_same):
    plain = network(name)
    folded = fold_batch_norms(plain)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert_same(folded, plain)


def test_folding_batch_norms_is_idempotent(network, assert_same):
    plain = network("segmenting ViT")
    assert_same(fold_batch_norms(fold_batch_norms(patches_by_matrix(plain))), plain)
