"""The service's side of D-Bus: dispatch from the introspection XML, authorization, objects, signals."""
