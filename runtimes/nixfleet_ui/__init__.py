"""`nixfleet ui`: a local page for a fleet, and the process on loopback that serves it and signs for it.

It knows the control plane by HTTP alone. The page in `page/` computes no sentence: it draws what the API says.

    admission   which requests of a browser are taken (pure)
    calls       which calls of the control plane a page may make (pure)
    statements  what an operator signs: made, shown, signed (pure)
    assets      the files of the page
    app         the ASGI application
    serving     the process: its socket, its secret, its redirect file

Source: docs/spec/local-page.md.
"""
