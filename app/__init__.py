"""The faces of Fleetcast: the command line and its reports."""
