"""What can be searched: params over recipe fields, and the named recipes. No torch."""
