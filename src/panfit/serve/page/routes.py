"""ROUTES: all addresses of the page.

    /                    choose a person, or start fresh           /fresh          outfits of every taste, to like some
    /outfits             what suits somebody, known or composed    /opinion        like, dislike, take back
    /look                why: heat over the photos, parts, swap    /complete       what fills an outfit's gap
    /wardrobe            pick pieces, compose from them            /photos         score uploaded photos
    /me                  what is known of me; erase it             /login          the token, where there is one

Without `?user=` a page is about the visitor's own newcomer. None of it is in the OpenAPI.
"""

from fastapi import APIRouter, HTTPException
from starlette.responses import Response

from panfit.serve.page import account, looking, opinions, people, wardrobe
from panfit.serve.page.render import FILES, FOREVER, PageRoute, content

router = APIRouter(include_in_schema=False, route_class=PageRoute)
for part in (people, opinions, looking, wardrobe, account):
    router.include_router(part.router)


@router.get("/page/{name}")
async def page_file(name: str) -> Response:
    """One of the page's own files."""
    if name not in FILES:
        raise HTTPException(404, f"The page has no file {name}.")
    return Response(content(name), media_type=FILES[name], headers={"Cache-Control": FOREVER})


@router.get("/favicon.ico")
async def favicon() -> Response:
    """What browsers ask for on their own."""
    return Response(content("icon.svg"), media_type=FILES["icon.svg"], headers={"Cache-Control": FOREVER})
