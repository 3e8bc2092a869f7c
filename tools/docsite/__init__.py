"""The documentation site: pages of docs, and pages made from the code, staged and built in one go.

    python -m tools.docsite [OUT]

What can be made is made when the site is built, and is never committed: commands from the program itself,
the reference from docstrings, troubleshooting from the errors in the source, results from benchmarks, pages
of notebooks, and ``llms.txt``. Pages written by hand are those of ``docs``; the order of all of them is
``site.yml``. A link ``site:PAGE`` in a page of docs names a page that is only there once the site is built.
"""
