"""Backups of folders that must not be lost, studies above all: whole snapshots of content-addressed files, read back when written."""
