import pytest


@pytest.fixture
def torch():
    """PyTorch, on one thread as the test machine is shared."""
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module
