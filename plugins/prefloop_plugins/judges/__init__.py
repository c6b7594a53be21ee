"""The bundled judges, a file each, and beside them what they share."""
