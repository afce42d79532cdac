"""The `streammesh` command in a container: `docker compose run --rm tools keys create …`."""

from streammesh.cli import main

if __name__ == "__main__":
    main()
