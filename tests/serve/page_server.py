"""A real server process for a real browser: a small drawn wardrobe, and a model that nobody trained.

python -m tests.serve.page_server FOLDER; it prints its address once it listens. PANFIT_TOKEN sets a token.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import uvicorn
from pydantic import SecretStr

from panfit.data.wardrobe import WardrobeConfig, draw_wardrobe
from panfit.features.inputs import ItemInputs
from panfit.methods import shape_of
from panfit.model.pan import Pan
from panfit.recommend import Recommender
from panfit.serve.app import create_app
from panfit.serve.settings import ServeConfig
from tests.serve.shop_service import CONFIG


def make_wardrobe(folder: Path) -> Recommender:
    """93 drawn pieces and 6 people, through eyes of chance."""
    dataset = draw_wardrobe(WardrobeConfig.tiny(image_size=64), folder / "data").dataset
    catalogue = dataset.catalogue
    seen = np.random.default_rng(8).integers(0, 256, (len(catalogue), 3, 16, 16), dtype=np.uint8)
    inputs = ItemInputs(seen, torch.from_numpy(catalogue.category_rows.copy()), None, CONFIG.images)
    model = Pan(CONFIG, shape_of(dataset, inputs), generator=torch.Generator().manual_seed(3)).eval()
    return Recommender(model, dataset, inputs)


class Server(uvicorn.Server):
    """Says where it is."""

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        (port,) = {socket.getsockname()[1] for server in self.servers for socket in server.sockets}
        sys.stdout.write(f"http://127.0.0.1:{port}\n")
        sys.stdout.flush()


def main() -> None:
    folder = Path(sys.argv[1])
    token = os.environ.get("PANFIT_TOKEN")
    config = ServeConfig(database=f"sqlite:///{folder / 'likes.db'}", token=None if token is None else SecretStr(token))
    app = create_app(make_wardrobe(folder), config)
    Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False)).run()


if __name__ == "__main__":
    main()
