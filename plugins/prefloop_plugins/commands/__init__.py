"""The bundled commands, besides those of the core: judge, eval, report, export and plugins new."""
