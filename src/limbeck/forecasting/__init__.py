"""What will this teacher bring to this student? Figures taken beforehand, and a forecast."""
