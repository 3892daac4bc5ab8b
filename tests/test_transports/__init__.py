"""What every transport must do, over each of them; HTTP/2 is spoken by a server of these tests."""
